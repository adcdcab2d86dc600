//! What the backward pass finds in memory, and what it computes again.

use serde::{Deserialize, Serialize};

/// Of the values computed inside of a region (a residual block, an attention): which of those that its
/// gradient needs are kept from the forward pass. The others are computed again right before. Losses
/// and gradients have the same bits either way (Chen et al., "Training Deep Nets with Sublinear Memory
/// Cost", 1604.06174).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recompute {
    /// Nothing is computed again: the fastest.
    #[default]
    None,
    /// The results of products, convolutions and attention are kept: what is computed again is cheap.
    Matmuls,
    /// Only what enters and leaves a region is kept: the least memory, for up to one more forward pass.
    Inputs,
}
