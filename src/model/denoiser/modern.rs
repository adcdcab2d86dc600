//! The modern denoiser: a pre-norm transformer with adaptive norms whose gates start at zero (DiT,
//! 2212.09748), root-mean-square norms (1910.07467), rotary positions in two dimensions (2104.09864) and
//! SwiGLU (2002.05202).
//!
//! Each block x += gate1 Attn(N(x) (1 + scale1) + shift1), x += gate2 FF(N(x) (1 + scale2) + shift2), with
//! [scale1 | shift1 | gate1 | scale2 | shift2 | gate2] = linear(SiLU(condition)). The norm N has no
//! parameters of its own. As the linear starts at zero, every block starts as the identity. With
//! embeddings to attend to there is x += CrossAttn(N(x), context) between the two, whose last projection
//! starts at zero.

use super::attend::{attend, unturned};
use super::rotary::angles;
use crate::config::{Denoiser, Mlp, Positions, RowNorm};
use crate::error::Result;
use crate::model::Scope;
use crate::model::layers::{Init, linear, mlp};
use crate::ops::{self, Activation};
use crate::plan::ParamInit;
use crate::tape::Act;

const EPS: f32 = 1e-6;

/// As [`super::transform`]; the condition is behind its activation.
pub(super) fn transform(
    s: &mut Scope<'_>,
    config: &Denoiser,
    size: [usize; 2],
    mut x: Act,
    condition: Act,
    context: Option<Act>,
) -> Result<Act> {
    let width = config.width;
    let angles = match config.positions {
        Positions::Learned => None,
        Positions::Rotary | Positions::Both => {
            let pairs = width / config.heads / 2;
            let table = angles(size, pairs, config.rotary_base);
            Some(s.tape.constant(&[size[0] * size[1], 2 * pairs], table)?)
        }
    };
    for i in 0..config.layers {
        x = s.at(format!("transformer_blocks.{i}")).region(|mut s| {
            let m = linear(s.at("modulation"), condition, 6 * width, Init::Zeros)?;
            let part = |s: &mut Scope<'_>, from: usize, parts: usize| {
                ops::slice_columns(s.tape, m, from * width, parts * width)
            };
            let (scale_shift, gate) = (part(&mut s, 0, 2)?, part(&mut s, 2, 1)?);
            let h = modulated(&mut s, config.norm, x, scale_shift)?;
            let h =
                attend(s.at("attn1"), [h, h], config.heads, true, Init::Transformer, |s, x| {
                    turned(s, config, angles, x)
                })?;
            let mut x = ops::add_gated(s.tape, x, gate, h)?;
            if let Some(context) = context {
                let h = normalised(&mut s, config.norm, x)?;
                let of = [h, context];
                let h = attend(s.at("attn2"), of, config.heads, true, Init::Zeros, unturned)?;
                x = ops::add(s.tape, x, h)?;
            }
            let (scale_shift, gate) = (part(&mut s, 3, 2)?, part(&mut s, 5, 1)?);
            let h = modulated(&mut s, config.norm, x, scale_shift)?;
            let h = feed_forward(s.at("ff"), config, h)?;
            ops::add_gated(s.tape, x, gate, h)
        })?;
    }
    let m = linear(s.at("norm_out.linear"), condition, 2 * width, Init::Zeros)?;
    modulated(s, config.norm, x, m)
}

fn normalised(s: &mut Scope<'_>, norm: RowNorm, x: Act) -> Result<Act> {
    match norm {
        RowNorm::Rms => ops::rms_norm(s.tape, x, EPS),
        RowNorm::Layer => ops::layer_norm(s.tape, x, EPS),
    }
}

fn modulated(s: &mut Scope<'_>, norm: RowNorm, x: Act, m: Act) -> Result<Act> {
    match norm {
        RowNorm::Rms => ops::rms_norm_modulated(s.tape, x, m, EPS),
        RowNorm::Layer => ops::layer_norm_modulated(s.tape, x, m, EPS),
    }
}

/// Queries or keys [batch, length, width], normalised head by head if that is wanted, then turned by their
/// places.
fn turned(mut s: Scope<'_>, config: &Denoiser, angles: Option<Act>, x: Act) -> Result<Act> {
    let x = match config.qk_norm {
        true => norm_of_heads(&mut s, config, x)?,
        false => x,
    };
    match angles {
        Some(angles) => ops::rotary(s.tape, x, angles),
        None => Ok(x),
    }
}

/// Every head of x [batch, length, width] normalised, with a factor `weight` and an offset `bias` for
/// each of its channels that all heads share.
fn norm_of_heads(s: &mut Scope<'_>, config: &Denoiser, x: Act) -> Result<Act> {
    let shape = s.tape.shape(x);
    let d = config.width / config.heads;
    let gamma = s.param("weight", &[d], ParamInit::Ones, false)?;
    let beta = s.param("bias", &[d], ParamInit::Zeros, false)?;
    let x = s.tape.reshape(x, &[shape.rows() * config.heads, d])?;
    let x = match config.norm {
        RowNorm::Rms => ops::rms_norm_affine(s.tape, x, gamma, beta, EPS)?,
        RowNorm::Layer => ops::layer_norm_affine(s.tape, x, gamma, beta, EPS)?,
    };
    s.tape.reshape(x, shape.dims())
}

fn feed_forward(mut s: Scope<'_>, config: &Denoiser, x: Act) -> Result<Act> {
    let hidden = config.hidden();
    if config.mlp == Mlp::Gelu {
        return mlp(s, x, hidden, Activation::GeluTanh);
    }
    let gate = linear(s.at("gate"), x, hidden, Init::Transformer)?;
    let value = linear(s.at("up"), x, hidden, Init::Transformer)?;
    let gate = ops::activation(s.tape, gate, Activation::Silu)?;
    let h = ops::mul(s.tape, gate, value)?;
    linear(s.at("down"), h, config.width, Init::Transformer)
}
