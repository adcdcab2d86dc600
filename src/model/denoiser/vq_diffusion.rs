//! The transformer of VQ-Diffusion (2111.14822): diffusers' Transformer2DModel over a grid of codes with
//! `norm_type = "ada_norm"`. Parameter names are diffusers' own.
//!
//! x = token + row + column embedding; each block x += SelfAttn(AdaLN(x, t)), x += CrossAttn(AdaLN(x, t),
//! context), x += FF(LN(x)), where every AdaLN has a table of steps and a linear layer of its own:
//! LN(x) (1 + scale) + shift with [scale | shift] = linear(SiLU(table[t])).

use super::adaptive::adaptive_norm;
use super::attend::{attend, unturned};
use super::{Grid, Inputs, condition, embed};
use crate::config::{Conditioning, Denoiser, FeedForward};
use crate::error::{Error, Result};
use crate::model::Scope;
use crate::model::layers::{Init, layer_norm, linear, mlp};
use crate::ops::{self, Activation};
use crate::tape::{Act, Idx};

const EPS: f32 = 1e-5;

/// Sizes of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Transformer {
    /// Its times are the steps of the diffusion; it has no classes of its own.
    pub grid: Grid,
    pub width: usize,
    pub heads: usize,
    pub layers: usize,
    /// Of the feed-forward part; diffusers has 4 times the width.
    pub hidden: usize,
    pub feed_forward: FeedForward,
    /// Biases of the projections to queries, keys and values.
    pub attention_bias: bool,
}

/// As [`super::logits`]: the context is the vector of the class and, if there is one, the embedding, in
/// front of which it stands. With [`Conditioning::Cross`] the embedding is not projected and, without classes,
/// alone: what diffusers calls `encoder_hidden_states`.
///
/// # Errors
/// No times are told apart.
pub(super) fn logits(
    s: &mut Scope<'_>,
    config: &Denoiser,
    grid: Grid,
    batch: usize,
    inputs: Inputs,
) -> Result<Act> {
    if grid.times == 0 {
        return Err(Error::usage("a vq-diffusion denoiser needs a diffusion in steps")
            .at("denoiser.kind")
            .help("set diffusion.process to \"vq-diffusion\", or use another denoiser.kind"));
    }
    let context = match (config.conditioning, grid.context) {
        (Conditioning::Cross, Some(of)) => {
            let context = condition::given_or_null(s, grid, batch)?;
            match context.filter(|_| grid.classes == 0) {
                Some(alone) => alone,
                None => condition::class_and_context(s, grid, of.width, inputs.class, context)?,
            }
        }
        _ => {
            let context = condition::context(s, grid, config.width, batch)?;
            condition::class_and_context(s, grid, config.width, inputs.class, context)?
        }
    };
    let time = condition::time(s, batch, inputs)?;
    Transformer::of(config, grid).logits(s, inputs.tokens, context, time)
}

impl Transformer {
    /// The sizes that the settings say.
    pub fn of(config: &Denoiser, grid: Grid) -> Self {
        Transformer {
            grid,
            width: config.width,
            heads: config.heads,
            layers: config.layers,
            hidden: config.hidden(),
            feed_forward: config.feed_forward,
            attention_bias: true,
        }
    }

    /// tokens [batch * rows * cols] in 0..=codes, context [batch, any length, any width], time [batch] below
    /// `grid.times` -> logits [batch, rows * cols, codes].
    pub fn logits(&self, s: &mut Scope<'_>, tokens: Idx, context: Act, time: Idx) -> Result<Act> {
        let tokens_at = s.at("latent_image_embedding");
        let mut x = embed::embed(tokens_at, self.grid, self.width, tokens, true)?;
        for i in 0..self.layers {
            x = s.at(format!("transformer_blocks.{i}")).region(|mut s| {
                let h = self.step_norm(s.at("norm1"), x, time)?;
                let h = self.attention(s.at("attn1"), [h, h])?;
                let x = ops::add(s.tape, x, h)?;
                let h = self.step_norm(s.at("norm2"), x, time)?;
                let h = self.attention(s.at("attn2"), [h, context])?;
                let x = ops::add(s.tape, x, h)?;
                let h = layer_norm(s.at("norm3"), x, EPS)?;
                let h = self.feed_forward(s.at("ff"), h)?;
                ops::add(s.tape, x, h)
            })?;
        }
        let x = layer_norm(s.at("norm_out"), x, EPS)?;
        linear(s.at("out"), x, self.grid.codes, Init::Transformer)
    }

    fn attention(&self, s: Scope<'_>, of: [Act; 2]) -> Result<Act> {
        attend(s, of, self.heads, self.attention_bias, Init::Transformer, unturned)
    }

    fn step_norm(&self, mut s: Scope<'_>, x: Act, time: Idx) -> Result<Act> {
        let table = embed::table(&mut s, "emb", self.grid.times, self.width)?;
        let time = ops::embedding(s.tape, time, table)?;
        let time = ops::activation(s.tape, time, Activation::Silu)?;
        adaptive_norm(s, x, time)
    }

    fn feed_forward(&self, mut s: Scope<'_>, x: Act) -> Result<Act> {
        let hidden = self.hidden;
        match self.feed_forward {
            FeedForward::GegluApproximate => mlp(s, x, hidden, Activation::GeluSigmoid),
            FeedForward::GeluApproximate => mlp(s, x, hidden, Activation::GeluTanh),
            FeedForward::Geglu => {
                let h = linear(s.at("net.0.proj"), x, 2 * hidden, Init::Transformer)?;
                let value = ops::slice_columns(s.tape, h, 0, hidden)?;
                let gate = ops::slice_columns(s.tape, h, hidden, hidden)?;
                let gate = ops::activation(s.tape, gate, Activation::Gelu)?;
                let h = ops::mul(s.tape, value, gate)?;
                linear(s.at("net.2"), h, self.width, Init::Transformer)
            }
        }
    }
}
