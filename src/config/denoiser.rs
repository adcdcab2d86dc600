//! `[denoiser]`: the network that predicts codes.

use super::check::{Bounds, Checked, demand, real, whole};
use super::diffusion::Process;
use serde::{Deserialize, Serialize};

/// The transformer that predicts codes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Denoiser {
    pub kind: DenoiserKind,
    pub layers: usize,
    pub width: usize,
    /// Divides `width`.
    pub heads: usize,
    /// Hidden width of the feed-forward part, in units of `width`; a gated one has two thirds of it.
    pub mlp_ratio: usize,
    /// For `vq-diffusion`: the feed-forward part.
    pub feed_forward: FeedForward,
    /// For `modern`: what normalises.
    pub norm: RowNorm,
    /// For `modern`: how a token knows its place.
    pub positions: Positions,
    /// Of rotary positions: the slowest frequency is near 1 / `rotary_base` (RoFormer's theta).
    pub rotary_base: f64,
    /// For `modern`: the feed-forward part.
    pub mlp: Mlp,
    /// For `modern`: normalises queries and keys (2302.05442), against logits that grow.
    pub qk_norm: bool,
    /// With `data.embeddings`: how they are used.
    pub conditioning: Conditioning,
    /// Share of samples trained without their class and embedding, for guidance.
    pub class_drop: f64,
}

impl Default for Denoiser {
    fn default() -> Self {
        Denoiser {
            kind: DenoiserKind::Adaptive,
            layers: 4,
            width: 128,
            heads: 4,
            mlp_ratio: 4,
            feed_forward: FeedForward::GegluApproximate,
            norm: RowNorm::Rms,
            positions: Positions::Both,
            rotary_base: 10_000.0,
            mlp: Mlp::Swiglu,
            qk_norm: false,
            conditioning: Conditioning::Pooled,
            class_drop: 0.1,
        }
    }
}

/// The architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DenoiserKind {
    /// Adaptive layer norms, learned positions, GELU.
    Adaptive,
    /// That of VQ-Diffusion (2111.14822), with cross-attention to the condition.
    VqDiffusion,
    /// Adaptive norms with gates that start at zero (DiT, 2212.09748), rotary positions, SwiGLU.
    Modern,
}

/// The feed-forward part of VQ-Diffusion's transformer, by the names of diffusers' `activation_fn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeedForward {
    /// x sigmoid(1.702 x), no gate.
    GegluApproximate,
    /// The tanh form of GELU.
    GeluApproximate,
    /// A gate with the exact GELU (2002.05202).
    Geglu,
}

/// How rows are normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowNorm {
    /// Root mean square norm (1910.07467).
    Rms,
    /// Layer norm.
    Layer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Positions {
    /// Queries and keys turn with the place (2104.09864), half of a head with the row, half with the
    /// column. Attention then knows how far apart two tokens are, but not where: where all are masked, all
    /// are predicted alike.
    Rotary,
    /// Embeddings of row and column.
    Learned,
    /// Both: where a token is, and how far from others.
    Both,
}

/// The feed-forward part of `modern`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mlp {
    /// SiLU(x a) * (x b) (2002.05202).
    Swiglu,
    /// GELU in its tanh form.
    Gelu,
}

/// How a denoiser follows embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Conditioning {
    /// Their mean, projected, is added to the condition of the adaptive norms; in `vq-diffusion` it is a
    /// token of the context.
    Pooled,
    /// Every block attends to all of them.
    Cross,
}

impl Denoiser {
    /// Width of the feed-forward part. Gated parts have three matrices instead of two: two thirds of the
    /// width make both equally large, rounded up to a multiple of 8.
    pub fn hidden(&self) -> usize {
        let hidden = self.mlp_ratio * self.width;
        match (self.kind, self.mlp) {
            (DenoiserKind::Modern, Mlp::Swiglu) => (2 * hidden).div_ceil(3).next_multiple_of(8),
            _ => hidden,
        }
    }

    /// Where a setting is out of range or does not fit the others or the process.
    pub(super) fn check(&self, process: Process) -> Checked {
        whole("denoiser.layers", self.layers as u64, 1, 64)?;
        whole("denoiser.width", self.width as u64, 1, 8192)?;
        whole("denoiser.heads", self.heads as u64, 1, 64)?;
        demand(
            self.width.is_multiple_of(self.heads),
            "denoiser.heads",
            format!("{} heads do not divide the width {}", self.heads, self.width),
            "change denoiser.heads or denoiser.width",
        )?;
        whole("denoiser.mlp_ratio", self.mlp_ratio as u64, 1, 16)?;
        real("denoiser.class_drop", self.class_drop, Bounds::HalfOpen(0.0, 1.0))?;
        let modern = self.kind == DenoiserKind::Modern;
        let head = self.width / self.heads;
        demand(
            !modern || self.positions == Positions::Learned || head.is_multiple_of(4),
            "denoiser.heads",
            format!("heads {head} wide cannot turn with row and column"),
            "make denoiser.width / denoiser.heads a multiple of 4, or use denoiser.positions = \
             \"learned\"",
        )?;
        demand(
            self.kind != DenoiserKind::Adaptive || self.conditioning != Conditioning::Cross,
            "denoiser.conditioning",
            "\"adaptive\" has no cross-attention".into(),
            "use denoiser.conditioning = \"pooled\", or denoiser.kind = \"modern\"",
        )?;
        real("denoiser.rotary_base", self.rotary_base, Bounds::OpenClosed(1.0, 1e9))?;
        demand(
            self.kind != DenoiserKind::VqDiffusion
                || !matches!(process, Process::Masked | Process::Gaussian),
            "denoiser.kind",
            "\"vq-diffusion\" is told the step, of which continuous time has none".into(),
            "set diffusion.process to \"vq-diffusion\", \"mask-and-replace\", \"absorbing\" or \
             \"uniform\", or use denoiser.kind = \"adaptive\" or \"modern\"",
        )
    }
}
