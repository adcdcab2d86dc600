//! The settings themselves: one small struct a section, with their defaults.
//!
//! Keys carry the names that diffusers uses wherever it has one. Real numbers are `f64` so that
//! they print as they were written.

use serde::{Deserialize, Serialize};

use super::data::Data;
use super::denoiser::Denoiser;
use super::diffusion::Diffusion;
use super::loss::Loss;
use super::quantiser::{Kl, Quantiser};
use crate::error::{Error, Result};
use crate::precision::Precision;
use crate::recompute::Recompute;

/// Everything that defines a run, except where its data and its results are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Of the run folder: letters, digits, `.`, `_` and `-`, at most 64.
    pub name: String,
    pub model: Model,
    pub quantiser: Quantiser,
    pub kl: Kl,
    pub loss: Loss,
    pub denoiser: Denoiser,
    pub diffusion: Diffusion,
    pub train: Train,
    pub data: Data,
    pub checkpoint: Checkpoint,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            name: "run".into(),
            model: Model::default(),
            quantiser: Quantiser::default(),
            kl: Kl::default(),
            loss: Loss::default(),
            denoiser: Denoiser::default(),
            diffusion: Diffusion::default(),
            train: Train::default(),
            data: Data::default(),
            checkpoint: Checkpoint::default(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// The autoencoder of the first VQ-VAE: strided convolutions and a few residual blocks.
    Classic,
    /// A small residual autoencoder that trains within minutes on a CPU.
    Compact,
    /// The architecture of diffusers' `VQModel`, and with `bottleneck = "kl"` of its
    /// `AutoencoderKL`, for importing and exporting their weights.
    Vqmodel,
}

/// What the latents pass between encoder and decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bottleneck {
    /// Codes: a VQ-VAE.
    Vq,
    /// Samples of Gaussians that are drawn towards the unit one: a KL-VAE.
    Kl,
}

/// The autoencoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    pub family: Family,
    pub bottleneck: Bottleneck,
    pub in_channels: usize,
    pub out_channels: usize,
    /// Channels of each resolution, finest first. Each step from one to the next halves the image;
    /// in the family `classic` the step to the first does too.
    pub block_out_channels: Vec<usize>,
    pub layers_per_block: usize,
    /// Residual blocks of the encoder and of the decoder in the family `classic`.
    pub num_residual_layers: usize,
    /// Channels inside of these blocks.
    pub num_residual_hiddens: usize,
    /// For `vqmodel`: channels of the encoder's output; with `bottleneck = "kl"` half of them.
    pub latent_channels: usize,
    /// K, the entries of the codebook. (diffusers' `num_vec_classes` counts the mask too: K + 1.)
    pub num_vq_embeddings: usize,
    /// d, the length of a code, or the channels of a KL-VAE's latents (diffusers' `AutoencoderKL`
    /// has as many as `latent_channels`).
    pub vq_embed_dim: usize,
    /// Divides each of `block_out_channels`; the family `classic` has no norms.
    pub norm_num_groups: usize,
    pub mid_block_add_attention: bool,
    /// beta: the weight of the commitment term of the loss.
    pub commitment_cost: f64,
}

impl Default for Model {
    fn default() -> Self {
        Model {
            family: Family::Compact,
            bottleneck: Bottleneck::Vq,
            in_channels: 1,
            out_channels: 1,
            block_out_channels: vec![32, 64, 64],
            layers_per_block: 1,
            num_residual_layers: 2,
            num_residual_hiddens: 32,
            latent_channels: 8,
            num_vq_embeddings: 256,
            vq_embed_dim: 8,
            norm_num_groups: 8,
            mid_block_add_attention: false,
            commitment_cost: 0.25,
        }
    }
}

impl Model {
    /// Channels of the encoder's output for each of the latent: mean and logarithm of the variance
    /// in a KL-VAE.
    pub fn moments(&self) -> usize {
        match self.bottleneck {
            Bottleneck::Vq => 1,
            Bottleneck::Kl => 2,
        }
    }

    /// Pixels per code along one axis: 2 to the number of halvings.
    pub fn reduction(&self) -> usize {
        1 << self.halvings()
    }

    fn halvings(&self) -> usize {
        let resolutions = self.block_out_channels.len();
        match self.family {
            Family::Classic => resolutions,
            Family::Compact | Family::Vqmodel => resolutions.saturating_sub(1),
        }
    }

    /// Rows and columns of codes for an image, which must be divisible by the reduction.
    pub fn latent_size(&self, height: usize, width: usize) -> Result<(usize, usize)> {
        let r = self.reduction();
        if height * width == 0 || !(height.is_multiple_of(r) && width.is_multiple_of(r)) {
            let up = |side: usize| side.next_multiple_of(r).max(r);
            return Err(Error::usage(format!("images of {height} x {width} do not fit the model"))
                .at("model.block_out_channels")
                .why(format!("{} halvings need multiples of {r}", self.halvings()))
                .help(format!("resize: --set data.size=[{},{}]", up(height), up(width))));
        }
        Ok((height / r, width / r))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RateSchedule {
    /// From `lr` down to 0 over the run, along half a cosine.
    Cosine,
    Constant,
}

/// The optimiser and the rhythm of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Train {
    pub seed: u64,
    pub steps: u64,
    /// Images per step, over all lanes.
    pub batch: usize,
    /// A step is computed in this many parts whose gradients are added; divides `batch`.
    pub lanes: usize,
    /// `mixed` stores activations and their gradients in 16 bits: about half the memory for them,
    /// on devices with 16-bit floats.
    pub precision: Precision,
    /// What the backward pass computes again instead of keeping it: `matmuls` all but products and
    /// convolutions, `inputs` whole blocks. Less memory, more time, the same numbers.
    pub recompute: Recompute,
    /// Peak learning rate.
    pub lr: f64,
    /// Steps over which the rate rises from 0.
    pub warmup: u64,
    pub schedule: RateSchedule,
    pub betas: [f64; 2],
    pub eps: f64,
    /// Decoupled, as in AdamW.
    pub weight_decay: f64,
    /// Largest norm of the gradient; 0 does not clip.
    pub clip: f64,
    /// Decay of the averaged weights used for evaluation and sampling; 0 keeps none.
    pub ema_decay: f64,
    pub log_every: u64,
    /// Steps between evaluations on the held-out part; 0 evaluates at the end only.
    pub eval_every: u64,
    /// Steps between sample pictures; 0 draws them at the end only.
    pub sample_every: u64,
}

impl Train {
    /// Images of a lane.
    pub fn micro(&self) -> usize {
        self.batch / self.lanes.max(1)
    }
}

impl Default for Train {
    fn default() -> Self {
        Train {
            seed: 0,
            steps: 10_000,
            batch: 32,
            lanes: 1,
            precision: Precision::F32,
            recompute: Recompute::None,
            lr: 3e-4,
            warmup: 100,
            schedule: RateSchedule::Cosine,
            betas: [0.9, 0.99],
            eps: 1e-8,
            weight_decay: 0.01,
            clip: 1.0,
            ema_decay: 0.9999,
            log_every: 10,
            eval_every: 500,
            sample_every: 500,
        }
    }
}

/// When the state of a run is saved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Checkpoint {
    /// Seconds between saves, so that a kill loses at most that; 0 saves after every step.
    pub every: f64,
    /// Numbered checkpoints kept beside the last and the best one: the newest of those written
    /// with every evaluation.
    pub keep: usize,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Checkpoint { every: 60.0, keep: 3 }
    }
}
