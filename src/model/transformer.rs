//! The transformer of VQ-Diffusion (2111.14822): diffusers' Transformer2DModel over a grid of codes with
//! `norm_type = "ada_norm"`. Parameter names are diffusers' own.
//!
//! x = token + row + column embedding; each block x += SelfAttn(AdaLN(x, t)), x += CrossAttn(AdaLN(x, t),
//! context), x += FF(LN(x)), where every AdaLN has a table of steps and a linear layer of its own:
//! LN(x) (1 + scale) + shift with [scale | shift] = linear(SiLU(table[t])).

use super::Scope;
use super::layers::{Init, layer_norm, linear};
use crate::error::Result;
use crate::ops::{self, Activation};
use crate::plan::ParamInit;
use crate::tape::{Act, Idx};

const EPS: f32 = 1e-5;
/// Hidden width of the feed-forward part, in units of the width.
const MLP_RATIO: usize = 4;

/// The feed-forward part, by the names of diffusers' `activation_fn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedForward {
    /// "geglu-approximate": x sigmoid(1.702 x), no gate.
    GeluSigmoid,
    /// "gelu-approximate": the tanh form.
    GeluTanh,
    /// "geglu": a gate with the exact GELU (2002.05202).
    Geglu,
}

/// Sizes of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Transformer {
    pub rows: usize,
    pub cols: usize,
    /// K; the mask is token K.
    pub codes: usize,
    pub heads: usize,
    pub head_dim: usize,
    pub layers: usize,
    /// Steps of the diffusion.
    pub steps: usize,
    pub feed_forward: FeedForward,
    /// Biases of the projections to queries, keys and values.
    pub attention_bias: bool,
}

impl Transformer {
    pub fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// tokens [batch * rows * cols] in 0..=codes, context [batch, any length, any width], time [batch] below
    /// `steps` -> logits [batch, rows * cols, codes].
    pub fn logits(&self, s: &mut Scope<'_>, tokens: Idx, context: Act, time: Idx) -> Result<Act> {
        let batch = s.tape.shape(context).dims()[0];
        let mut x = self.embed(s.at("latent_image_embedding"), tokens, batch)?;
        for i in 0..self.layers {
            x = s.at(format!("transformer_blocks.{i}")).region(|mut s| {
                let h = self.adaptive_norm(s.at("norm1"), x, time)?;
                let h = self.attention(s.at("attn1"), h, h)?;
                let x = ops::add(s.tape, x, h)?;
                let h = self.adaptive_norm(s.at("norm2"), x, time)?;
                let h = self.attention(s.at("attn2"), h, context)?;
                let x = ops::add(s.tape, x, h)?;
                let h = layer_norm(s.at("norm3"), x, EPS)?;
                let h = self.feed_forward(s.at("ff"), h)?;
                ops::add(s.tape, x, h)
            })?;
        }
        let x = layer_norm(s.at("norm_out"), x, EPS)?;
        linear(s.at("out"), x, self.codes, Init::Transformer)
    }

    fn embed(&self, mut s: Scope<'_>, tokens: Idx, batch: usize) -> Result<Act> {
        let (width, length) = (self.width(), self.rows * self.cols);
        let mut table = |name: &str, rows: usize| {
            s.param(&format!("{name}.weight"), &[rows, width], ParamInit::Normal(0.02), false)
        };
        let token = table("emb", self.codes + 1)?;
        let (row, col) = (table("height_emb", self.rows)?, table("width_emb", self.cols)?);
        let x = ops::embedding(s.tape, tokens, token)?;
        let x = s.tape.reshape(x, &[batch, length, width])?;
        let place = |of: fn(usize, usize) -> usize| -> Vec<u32> {
            (0..length).map(|i| of(i, self.cols) as u32).collect()
        };
        let rows = s.tape.constant_idx(&[length], place(|i, cols| i / cols))?;
        let cols = s.tape.constant_idx(&[length], place(|i, cols| i % cols))?;
        let rows = ops::embedding(s.tape, rows, row)?;
        let cols = ops::embedding(s.tape, cols, col)?;
        let places = ops::add(s.tape, rows, cols)?;
        ops::add_repeated(s.tape, x, places)
    }

    fn adaptive_norm(&self, mut s: Scope<'_>, x: Act, time: Idx) -> Result<Act> {
        let dims = [self.steps, self.width()];
        let table = s.param("emb.weight", &dims, ParamInit::Normal(0.02), false)?;
        let time = ops::embedding(s.tape, time, table)?;
        let time = ops::activation(s.tape, time, Activation::Silu)?;
        let m = linear(s.at("linear"), time, 2 * self.width(), Init::Transformer)?;
        ops::layer_norm_modulated(s.tape, x, m, EPS)
    }

    fn attention(&self, mut s: Scope<'_>, x: Act, context: Act) -> Result<Act> {
        let width = self.width();
        let mut project = |name: &str, of: Act| {
            let mut s = s.at(name);
            let dims = [s.tape.shape(of).channels(), width];
            let weight = s.param("weight", &dims, ParamInit::Normal(0.02), true)?;
            let bias = match self.attention_bias {
                true => Some(s.param("bias", &[width], ParamInit::Zeros, false)?),
                false => None,
            };
            ops::linear(s.tape, of, weight, bias)
        };
        let (q, k) = (project("to_q", x)?, project("to_k", context)?);
        let v = project("to_v", context)?;
        let h = ops::attention(s.tape, q, k, v, self.heads)?;
        linear(s.at("to_out.0"), h, width, Init::Transformer)
    }

    fn feed_forward(&self, mut s: Scope<'_>, x: Act) -> Result<Act> {
        let hidden = MLP_RATIO * self.width();
        let gated = self.feed_forward == FeedForward::Geglu;
        let both = if gated { 2 * hidden } else { hidden };
        let h = linear(s.at("net.0.proj"), x, both, Init::Transformer)?;
        let h = match self.feed_forward {
            FeedForward::GeluSigmoid => ops::activation(s.tape, h, Activation::GeluSigmoid)?,
            FeedForward::GeluTanh => ops::activation(s.tape, h, Activation::GeluTanh)?,
            FeedForward::Geglu => {
                let value = ops::slice_columns(s.tape, h, 0, hidden)?;
                let gate = ops::slice_columns(s.tape, h, hidden, hidden)?;
                let gate = ops::activation(s.tape, gate, Activation::Gelu)?;
                ops::mul(s.tape, value, gate)?
            }
        };
        linear(s.at("net.2"), h, self.width(), Init::Transformer)
    }
}
