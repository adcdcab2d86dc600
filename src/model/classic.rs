//! The first published VQ-VAE for images (van den Oord et al., 1711.00937, with the sizes of Sonnet's
//! example): strided convolutions, a stack of small residual blocks, no normalisation.

use super::Scope;
use super::layers::{conv, conv_transpose};
use crate::config::Model;
use crate::error::Result;
use crate::ops::{self, Activation, Conv};
use crate::tape::Act;

/// x [n, h, w, in_channels] -> latents [n, h / r, w / r, vq_embed_dim], r = 2^levels.
pub fn encode(mut s: Scope<'_>, model: &Model, x: Act) -> Result<Act> {
    let mut h = x;
    for (i, &c) in model.block_out_channels.iter().enumerate() {
        h = s.at(format!("down.{i}")).region(|mut s| {
            let h = conv(s.at(""), h, c, 4, Conv::half())?;
            ops::activation(s.tape, h, Activation::Relu)
        })?;
    }
    let hidden = s.tape.shape(h).channels();
    h = conv(s.at("conv"), h, hidden, 3, Conv::same(3))?;
    h = ops::activation(s.tape, h, Activation::Relu)?;
    h = residual_stack(s.at("residual"), model, h)?;
    conv(s.at("conv_out"), h, model.moments() * model.vq_embed_dim, 1, Conv::same(1))
}

/// Codes [n, h / r, w / r, vq_embed_dim] -> image [n, h, w, out_channels].
pub fn decode(mut s: Scope<'_>, model: &Model, z: Act) -> Result<Act> {
    let channels = &model.block_out_channels;
    let mut h = conv(s.at("conv_in"), z, channels[channels.len() - 1], 3, Conv::same(3))?;
    h = residual_stack(s.at("residual"), model, h)?;
    for i in (1..channels.len()).rev() {
        h = s.at(format!("up.{i}")).region(|mut s| {
            let h = conv_transpose(s.at(""), h, channels[i - 1], 4, Conv::half())?;
            ops::activation(s.tape, h, Activation::Relu)
        })?;
    }
    conv_transpose(s.at("up.0"), h, model.out_channels, 4, Conv::half())
}

/// x <- x + conv1(relu(conv3(relu(x)))) for every layer, then a ReLU.
fn residual_stack(mut s: Scope<'_>, model: &Model, x: Act) -> Result<Act> {
    let (mut x, c) = (x, s.tape.shape(x).channels());
    for i in 0..model.num_residual_layers {
        x = s.at(i).region(|mut s| {
            let h = ops::activation(s.tape, x, Activation::Relu)?;
            let h = conv(s.at("conv3"), h, model.num_residual_hiddens, 3, Conv::same(3))?;
            let h = ops::activation(s.tape, h, Activation::Relu)?;
            let h = conv(s.at("conv1"), h, c, 1, Conv::same(1))?;
            ops::add(s.tape, x, h)
        })?;
    }
    ops::activation(s.tape, x, Activation::Relu)
}
