//! `[diffusion]`: what is done to codes, and how its undoing is trained.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoiseSchedule {
    Linear,
    Cosine,
}

/// The corruption that the denoiser undoes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Diffusion {
    /// What becomes of a code.
    pub process: Process,
    /// For `masked`: how the masked share grows with time.
    pub schedule: NoiseSchedule,
    /// For `masked`: training times are drawn from [t_min, 1], as the weight of the loss grows without
    /// bound at 0.
    pub t_min: f64,
    /// For all others: steps of the chain.
    pub steps: usize,
    /// For all others: weight of the cross-entropy beside the bound (lambda of VQ-Diffusion, equation 9).
    pub auxiliary: f64,
    /// Weighs the cross-entropy by 2 - t/T instead of 1.
    pub adaptive_auxiliary: bool,
}

impl Default for Diffusion {
    fn default() -> Self {
        Diffusion {
            process: Process::Masked,
            schedule: NoiseSchedule::Linear,
            t_min: 1e-3,
            steps: 100,
            auxiliary: 5e-4,
            adaptive_auxiliary: true,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Process {
    /// The mask, in continuous time (2406.07524).
    Masked,
    /// The mask and a trace of other codes, in steps, as VQ-Diffusion was released.
    VqDiffusion,
    /// The mask and other codes, in steps, as VQ-Diffusion was published (2111.14822).
    MaskAndReplace,
    /// The mask, in steps (D3PM, 2107.03006).
    Absorbing,
    /// Other codes, in steps (D3PM).
    Uniform,
}
