//! Denoisers of discrete diffusion: transformers over the grid of codes, which predict the clean code of
//! every place from the corrupted ones.
//!
//! They follow a condition: the class (index `classes` is the learnable null class), an embedding of the
//! sample if there are any, with a learnable null of its own, and, in a chain of steps, the step. With an absorbing mask in continuous time there is no time conditioning: the number of
//! masked tokens says what time it is (2406.07524, section 3.4).

mod adaptive;
mod attend;
mod condition;
mod embed;
mod modern;
mod rotary;
pub mod vq_diffusion;

use super::Scope;
use crate::config::{Denoiser, DenoiserKind};
use crate::error::Result;
use crate::tape::{Act, Idx};

/// Sizes that the data and the tokenizer fix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    pub rows: usize,
    pub cols: usize,
    /// K; the mask is token K.
    pub codes: usize,
    /// Class `classes` is the null class.
    pub classes: usize,
    /// Times that are told apart; 0: the network is not told.
    pub times: usize,
    /// Embeddings that are given, if any are.
    pub context: Option<Context>,
}

/// The embedding of a sample: so many vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// 1 where the pooled one is followed.
    pub tokens: usize,
    pub width: usize,
}

impl Grid {
    pub fn tokens(&self) -> usize {
        self.rows * self.cols
    }
}

/// Name of the input [batch] with the step of every sample, below `times`.
pub const TIME: &str = "time";

/// Name of the input [batch, context.tokens, context.width] with the embedding of every sample, zeros where
/// it is dropped.
pub const CONTEXT: &str = "context";

/// Name of the input [batch]: 1 where the embedding is dropped, else 0.
pub const DROPPED: &str = "dropped";

/// Name of the parameter that stands for a dropped embedding.
pub const NULL_CONTEXT: &str = "null_context";

/// tokens [batch * rows * cols] in 0..=K, class [batch] in 0..=classes -> logits [batch, L, K]. Where times
/// are told apart there is an input [`TIME`], and where there is a context [`CONTEXT`] and [`DROPPED`].
pub fn logits(
    s: &mut Scope<'_>,
    config: &Denoiser,
    grid: Grid,
    batch: usize,
    tokens: Idx,
    class: Idx,
) -> Result<Act> {
    logits_at(s, config, grid, batch, Inputs { tokens, class, time: None })
}

/// What a denoiser is fed with.
#[derive(Debug, Clone, Copy)]
pub struct Inputs {
    /// [batch * rows * cols] in 0..=K.
    pub tokens: Idx,
    /// [batch] in 0..=classes.
    pub class: Idx,
    /// [batch], where the device knows the times; else there is an input [`TIME`].
    pub time: Option<Idx>,
}

/// As [`logits`], from inputs that are on the tape.
pub fn logits_at(
    s: &mut Scope<'_>,
    config: &Denoiser,
    grid: Grid,
    batch: usize,
    inputs: Inputs,
) -> Result<Act> {
    let of = match config.kind {
        DenoiserKind::Adaptive => adaptive::logits,
        DenoiserKind::VqDiffusion => vq_diffusion::logits,
        DenoiserKind::Modern => modern::logits,
    };
    of(s, config, grid, batch, inputs)
}
