//! `[denoiser]`: the network that predicts codes.

use serde::{Deserialize, Serialize};

/// The transformer that predicts masked codes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Denoiser {
    pub layers: usize,
    pub width: usize,
    /// Divides `width`.
    pub heads: usize,
    /// Hidden width of the feed-forward part, in units of `width`.
    pub mlp_ratio: usize,
    /// Share of samples trained without their class, for guidance.
    pub class_drop: f64,
}

impl Default for Denoiser {
    fn default() -> Self {
        Denoiser { layers: 4, width: 128, heads: 4, mlp_ratio: 4, class_drop: 0.1 }
    }
}
