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
    /// For all others: steps are drawn the more often the larger their losses have been (VQ-Diffusion),
    /// not all alike. Left out of a new run it is what its process was published with; left out of the
    /// settings of a checkpoint, which then is older than this key, it is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub importance: Option<bool>,
    /// For `masked`: steps of the bound that is trained and reported; 0: continuous time.
    pub discrete_steps: usize,
    /// For `masked`: how training weighs the cross-entropy of the masked tokens.
    pub weighting: Weighting,
    /// Held-out images that the bound, or the loss of `gaussian`, is estimated on, evenly among all; 0: every
    /// one.
    pub eval_images: usize,
    /// For `gaussian`: gamma of the min-SNR weights of the loss (2303.09556), usually 5; 0 weighs all times
    /// alike.
    pub min_snr: f64,
}

impl Diffusion {
    /// Whether steps are drawn by the size of their losses.
    pub fn samples_by_importance(&self) -> bool {
        // D3PM's chains were trained with all steps alike, drawn evenly, and so they are here.
        let published = matches!(self.process, Process::VqDiffusion | Process::MaskAndReplace);
        self.importance.unwrap_or(published)
    }
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
            importance: None,
            discrete_steps: 0,
            weighting: Weighting::Bound,
            eval_images: 1000,
            min_snr: 0.0,
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
    /// None: Gaussian noise on the vectors of the codes, or on the latents of a KL-VAE, in continuous time
    /// (2202.00512). What is sampled is rounded to codes, if there are any.
    Gaussian,
}

/// How the cross-entropy of masked tokens is weighed at time t. Only the first makes the loss a bound on
/// the likelihood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weighting {
    /// As the bound does.
    Bound,
    /// All alike (MaskGIT, 2202.04200).
    Maskgit,
    /// 1 - t (Unleashing Transformers, 2111.12701).
    Linear,
}
