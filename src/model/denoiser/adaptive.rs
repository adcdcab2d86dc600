//! The adaptive denoiser: x = token + row + column embedding; each block x += Attn(AdaLN(x)), x +=
//! MLP(AdaLN(x)), where the adaptive layer norm takes scale and shift from the condition.

use super::attend::{attend, unturned};
use crate::config::Denoiser;
use crate::error::Result;
use crate::model::Scope;
use crate::model::layers::{Init, layer_norm, linear, mlp};
use crate::ops::{self, Activation};
use crate::tape::Act;

const EPS: f32 = 1e-5;

/// As [`super::transform`]; the condition is behind its activation.
pub(super) fn transform(
    s: &mut Scope<'_>,
    config: &Denoiser,
    mut x: Act,
    condition: Act,
) -> Result<Act> {
    for i in 0..config.layers {
        x = s.at(format!("transformer_blocks.{i}")).region(|mut s| {
            let h = adaptive_norm(s.at("norm1"), x, condition)?;
            let h = attend(s.at("attn1"), [h, h], config.heads, true, Init::Transformer, unturned)?;
            let x = ops::add(s.tape, x, h)?;
            let h = adaptive_norm(s.at("norm2"), x, condition)?;
            let h = mlp(s.at("ff"), h, config.hidden(), Activation::GeluTanh)?;
            ops::add(s.tape, x, h)
        })?;
    }
    layer_norm(s.at("norm_out"), x, EPS)
}

/// LN(x) (1 + scale) + shift with [scale | shift] = linear(condition); `condition` [batch, width] behind
/// its activation.
pub(super) fn adaptive_norm(mut s: Scope<'_>, x: Act, condition: Act) -> Result<Act> {
    let width = s.tape.shape(x).channels();
    let m = linear(s.at("linear"), condition, 2 * width, Init::Transformer)?;
    ops::layer_norm_modulated(s.tape, x, m, EPS)
}
