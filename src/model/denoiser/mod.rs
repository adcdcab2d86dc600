//! The denoiser of masked discrete diffusion: a transformer over the grid of codes.
//!
//! x = token + row + column embedding; each block x += Attn(AdaLN(x)), x += MLP(AdaLN(x)), where the
//! adaptive layer norm takes scale and shift from the class embedding (index `classes` is the
//! learnable null class). With an absorbing mask in continuous time there is no time conditioning: the
//! number of masked tokens says what time it is (2406.07524, section 3.4). In a chain of steps the
//! embedding of the step is added to that of the class.

pub mod continuous;

use super::Scope;
use super::layers::{Init, layer_norm, linear, mlp};
use crate::config::Denoiser;
use crate::error::Result;
use crate::ops::{self, Activation};
use crate::plan::ParamInit;
use crate::tape::{Act, Idx};

const EPS: f32 = 1e-5;

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
}

impl Grid {
    pub fn tokens(&self) -> usize {
        self.rows * self.cols
    }
}

/// Name of the input [batch] with the step of every sample, below `times`.
pub const TIME: &str = "time";

/// tokens [batch * rows * cols] in 0..=K, class [batch] in 0..=classes -> logits [batch, L, K]. Where times
/// are told apart there is an input [`TIME`].
pub fn logits(
    s: &mut Scope<'_>,
    config: &Denoiser,
    grid: Grid,
    batch: usize,
    tokens: Idx,
    class: Idx,
) -> Result<Act> {
    logits_at(s, config, grid, batch, [tokens, class], None)
}

/// As [`logits`] of [tokens, class], with times [batch] that the device knows instead of an input.
pub fn logits_at(
    s: &mut Scope<'_>,
    config: &Denoiser,
    grid: Grid,
    batch: usize,
    [tokens, class]: [Idx; 2],
    time: Option<Idx>,
) -> Result<Act> {
    let (length, width) = (grid.tokens(), config.width);
    let normal = || ParamInit::Normal(0.02);
    let table = s.param("emb.weight", &[grid.codes + 1, width], normal(), false)?;
    let row_table = s.param("height_emb.weight", &[grid.rows, width], normal(), false)?;
    let col_table = s.param("width_emb.weight", &[grid.cols, width], normal(), false)?;
    let class_table = s.param("class_emb.weight", &[grid.classes + 1, width], normal(), false)?;

    let x = ops::embedding(s.tape, tokens, table)?;
    let x = s.tape.reshape(x, &[batch, length, width])?;
    let rows = (0..length).map(|i| (i / grid.cols) as u32).collect();
    let cols = (0..length).map(|i| (i % grid.cols) as u32).collect();
    let rows = s.tape.constant_idx(&[length], rows)?;
    let cols = s.tape.constant_idx(&[length], cols)?;
    let rows = ops::embedding(s.tape, rows, row_table)?;
    let cols = ops::embedding(s.tape, cols, col_table)?;
    let positions = ops::add(s.tape, rows, cols)?;
    let x = ops::add_repeated(s.tape, x, positions)?;

    let mut condition = ops::embedding(s.tape, class, class_table)?;
    if grid.times > 0 {
        let time_table = s.param("time_emb.weight", &[grid.times, width], normal(), false)?;
        let time = match time {
            Some(time) => time,
            None => s.tape.input_idx(TIME, &[batch])?,
        };
        let time = ops::embedding(s.tape, time, time_table)?;
        condition = ops::add(s.tape, condition, time)?;
    }
    let condition = ops::activation(s.tape, condition, Activation::Silu)?;
    let x = blocks(s, config, x, condition)?;
    let x = layer_norm(s.at("norm_out"), x, EPS)?;
    linear(s.at("out"), x, grid.codes, Init::Transformer)
}

/// The blocks alone: x [batch, length, width] and the activated condition [batch, width] of the adaptive
/// norms -> [batch, length, width].
fn blocks(s: &mut Scope<'_>, config: &Denoiser, mut x: Act, condition: Act) -> Result<Act> {
    for i in 0..config.layers {
        x = s.at(format!("transformer_blocks.{i}")).region(|mut s| {
            let h = adaptive_norm(s.at("norm1"), x, condition)?;
            let h = self_attention(s.at("attn1"), h, config.heads)?;
            let x = ops::add(s.tape, x, h)?;
            let h = adaptive_norm(s.at("norm2"), x, condition)?;
            let hidden = config.mlp_ratio * config.width;
            let h = mlp(s.at("ff"), h, hidden, Activation::GeluTanh)?;
            ops::add(s.tape, x, h)
        })?;
    }
    Ok(x)
}

fn adaptive_norm(mut s: Scope<'_>, x: Act, condition: Act) -> Result<Act> {
    let width = s.tape.shape(x).channels();
    let m = linear(s.at("linear"), condition, 2 * width, Init::Transformer)?;
    ops::layer_norm_modulated(s.tape, x, m, EPS)
}

fn self_attention(mut s: Scope<'_>, x: Act, heads: usize) -> Result<Act> {
    let width = s.tape.shape(x).channels();
    let q = linear(s.at("to_q"), x, width, Init::Transformer)?;
    let k = linear(s.at("to_k"), x, width, Init::Transformer)?;
    let v = linear(s.at("to_v"), x, width, Init::Transformer)?;
    let h = ops::attention(s.tape, q, k, v, heads)?;
    linear(s.at("to_out.0"), h, width, Init::Transformer)
}
