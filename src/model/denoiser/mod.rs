//! Denoisers of discrete diffusion: transformers over the grid of codes, which predict the clean code of
//! every place from the corrupted ones.
//!
//! They follow a condition: the class (index `classes` is the learnable null class), an embedding of the
//! sample if there are any, with a learnable null of its own, and, in a chain of steps, the step. With an
//! absorbing mask in continuous time there is no time conditioning: the number of masked tokens says what
//! time it is (2406.07524, section 3.4). Over latents instead of codes ([`continuous`]) there is always one.

mod adaptive;
mod attend;
mod condition;
pub mod continuous;
mod embed;
mod modern;
mod rotary;
pub mod vq_diffusion;

use super::Scope;
use super::layers::{Init, linear};
use crate::config::{Conditioning, Denoiser, DenoiserKind, Positions};
use crate::error::{Error, Result};
use crate::ops::{self, Activation};
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
    let width = config.width;
    if config.kind == DenoiserKind::VqDiffusion {
        return vq_diffusion::logits(s, config, grid, batch, inputs);
    }
    let x = embed::embed(s.at(""), grid, width, inputs.tokens, placed(config))?;
    let context = condition::context(s, grid, width, batch)?;
    let (pooled, context) = match config.conditioning {
        Conditioning::Pooled => (context, None),
        Conditioning::Cross => (None, context),
    };
    let condition = condition::condition(s, grid, width, inputs, pooled)?;
    let x = transform(s, config, [grid.rows, grid.cols], x, condition, context)?;
    linear(s.at("out"), x, grid.codes, Init::Transformer)
}

/// What is between the embeddings and the last layer, whatever the places hold: x [batch, rows * cols,
/// width], the condition [batch, width] of the adaptive norms and, where there is one to attend to, a context
/// [batch, any length, width] -> normalised [batch, rows * cols, width].
fn transform(
    s: &mut Scope<'_>,
    config: &Denoiser,
    size: [usize; 2],
    x: Act,
    condition: Act,
    context: Option<Act>,
) -> Result<Act> {
    let condition = ops::activation(s.tape, condition, Activation::Silu)?;
    match (config.kind, context) {
        (DenoiserKind::Adaptive, None) => adaptive::transform(s, config, x, condition),
        (DenoiserKind::Modern, _) => modern::transform(s, config, size, x, condition, context),
        _ => Err(Error::failed(format!("a {:?} denoiser is no such transformer", config.kind))),
    }
}

/// Whether places have embeddings: rotary ones alone turn queries and keys instead.
fn placed(config: &Denoiser) -> bool {
    config.kind != DenoiserKind::Modern || config.positions != Positions::Rotary
}
