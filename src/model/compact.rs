//! The compact autoencoder: one residual block a resolution, no attention. Small enough to train on
//! two CPU cores within minutes.

use super::Scope;
use super::layers::{conv, group_norm, res_block, up_conv};
use crate::config::Model;
use crate::error::Result;
use crate::ops::Conv;
use crate::tape::Act;

/// PyTorch's default for GroupNorm.
const EPS: f32 = 1e-5;

/// x [n, h, w, in_channels] -> latents [n, h / r, w / r, vq_embed_dim], twice as many channels for the
/// moments of a KL-VAE.
pub fn encode(mut s: Scope<'_>, model: &Model, x: Act) -> Result<Act> {
    let (channels, groups) = (&model.block_out_channels, model.norm_num_groups);
    let mut h = conv(s.at("conv_in"), x, channels[0], 3, Conv::same(3))?;
    for (i, &c) in channels.iter().enumerate().skip(1) {
        let mut block = s.at(format!("down.{i}"));
        h = conv(block.at("conv"), h, c, 3, Conv::half())?;
        h = res_block(block.at("res"), h, c, groups, EPS)?;
    }
    s.region(|s| end(s, groups, h, model.moments() * model.vq_embed_dim, 1))
}

/// Codes [n, h / r, w / r, vq_embed_dim] -> image [n, h, w, out_channels].
pub fn decode(mut s: Scope<'_>, model: &Model, z: Act) -> Result<Act> {
    let (channels, groups) = (&model.block_out_channels, model.norm_num_groups);
    let top = channels[channels.len() - 1];
    let mut h = conv(s.at("conv_in"), z, top, 3, Conv::same(3))?;
    for i in (1..channels.len()).rev() {
        let mut block = s.at(format!("up.{i}"));
        h = res_block(block.at("res"), h, channels[i], groups, EPS)?;
        h = up_conv(block, "conv", h, channels[i - 1])?;
    }
    s.region(|s| end(s, groups, h, model.out_channels, 3))
}

fn end(mut s: Scope<'_>, groups: usize, x: Act, cout: usize, kernel: usize) -> Result<Act> {
    let h = group_norm(s.at("norm_out"), x, groups, EPS, true)?;
    conv(s.at("conv_out"), h, cout, kernel, Conv::same(kernel))
}
