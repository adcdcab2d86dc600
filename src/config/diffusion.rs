//! `[diffusion]`: what is done to codes, and how its undoing is trained.

use super::check::{Bounds, Checked, demand, real, whole};
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
    /// For `gaussian`: gamma of the min-SNR weights of the loss (2303.09556), usually 5; 0 weighs all times
    /// alike.
    pub min_snr: f64,
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
            min_snr: 0.0,
        }
    }
}

impl Diffusion {
    /// The ranges, and that nothing is set which the process would ignore where it has none of what is set.
    pub(super) fn check(&self) -> Checked {
        real("diffusion.t_min", self.t_min, Bounds::Open(0.0, 0.5))?;
        whole("diffusion.steps", self.steps as u64, 1, 10_000)?;
        real("diffusion.auxiliary", self.auxiliary, Bounds::Closed(0.0, 100.0))?;
        real("diffusion.min_snr", self.min_snr, Bounds::Closed(0.0, 1e6))?;
        let usual = Diffusion::default();
        if self.process != Process::Gaussian {
            let what = "weighs the loss of another process".into();
            let help = "leave it away, or set diffusion.process = \"gaussian\"";
            return demand(self.min_snr == usual.min_snr, "diffusion.min_snr", what, help);
        }
        for (key, set) in [
            ("diffusion.schedule", self.schedule != usual.schedule),
            ("diffusion.t_min", self.t_min != usual.t_min),
            ("diffusion.steps", self.steps != usual.steps),
            ("diffusion.auxiliary", self.auxiliary != usual.auxiliary),
            ("diffusion.adaptive_auxiliary", self.adaptive_auxiliary != usual.adaptive_auxiliary),
        ] {
            let what = "has no meaning with process = \"gaussian\"".into();
            let help =
                "leave it away: Gaussian noise comes in continuous time, by a schedule of its own";
            demand(!set, key, what, help)?;
        }
        Ok(())
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
