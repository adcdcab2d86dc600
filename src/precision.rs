//! How the values of a step are stored.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Arithmetic and sums are f32 either way, and so are weights, statistics and losses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    #[default]
    F32,
    /// Activations and their gradients are stored as f16 where every kernel that touches them allows
    /// it ([`crate::kernels::Kernel::half_ok`]), and the loss is scaled, so that small gradients do
    /// not vanish in f16 (Micikevicius et al., "Mixed Precision Training", 2018).
    Mixed,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::F32 => "f32",
            Precision::Mixed => "mixed",
        })
    }
}

impl std::str::FromStr for Precision {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f32" => Ok(Precision::F32),
            "mixed" => Ok(Precision::Mixed),
            _ => Err("use f32 or mixed".into()),
        }
    }
}
