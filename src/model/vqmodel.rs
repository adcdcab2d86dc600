//! diffusers' VQModel and AutoencoderKL: encoder, decoder and the 1x1 convolutions around the
//! bottleneck. Parameter names are diffusers' own, so that a state dict maps by name (with convolution weights as
//! [kh, kw, in, out] and linear weights as [in, out]).

use super::Scope;
use super::layers::{conv, group_norm, pixel_attention, res_block, up_conv};
use crate::config::Model;
use crate::error::Result;
use crate::ops::Conv;
use crate::tape::Act;

/// diffusers' epsilon of every norm in its VAEs.
const EPS: f32 = 1e-6;

/// x [n, h, w, in_channels] -> latents [n, h / r, w / r, vq_embed_dim] before quantisation, or
/// moments, [.., 2 vq_embed_dim].
pub fn encode(mut s: Scope<'_>, model: &Model, x: Act) -> Result<Act> {
    let (channels, groups) = (&model.block_out_channels, model.norm_num_groups);
    let mut e = s.at("encoder");
    let mut h = conv(e.at("conv_in"), x, channels[0], 3, Conv::same(3))?;
    for (k, &c) in channels.iter().enumerate() {
        let mut block = e.at(format!("down_blocks.{k}"));
        for j in 0..model.layers_per_block {
            h = res_block(block.at(format!("resnets.{j}")), h, c, groups, EPS)?;
        }
        if k + 1 < channels.len() {
            h = conv(block.at("downsamplers.0.conv"), h, c, 3, Conv::half_asymmetric())?;
        }
    }
    h = mid_block(e.at("mid_block"), model, h)?;
    let (latent, moments) = (model.latent_channels, model.moments());
    h = e.region(|s| end(s, groups, h, moments * latent))?;
    conv(s.at("quant_conv"), h, moments * model.vq_embed_dim, 1, Conv::same(1))
}

/// Codes [n, h / r, w / r, vq_embed_dim] -> image [n, h, w, out_channels].
pub fn decode(mut s: Scope<'_>, model: &Model, z: Act) -> Result<Act> {
    let (channels, groups) = (&model.block_out_channels, model.norm_num_groups);
    let z = conv(s.at("post_quant_conv"), z, model.latent_channels, 1, Conv::same(1))?;
    let mut d = s.at("decoder");
    let top = channels[channels.len() - 1];
    let mut h = conv(d.at("conv_in"), z, top, 3, Conv::same(3))?;
    h = mid_block(d.at("mid_block"), model, h)?;
    for (k, &c) in channels.iter().rev().enumerate() {
        let mut block = d.at(format!("up_blocks.{k}"));
        for j in 0..=model.layers_per_block {
            h = res_block(block.at(format!("resnets.{j}")), h, c, groups, EPS)?;
        }
        if k + 1 < channels.len() {
            h = up_conv(block, "upsamplers.0.conv", h, c)?;
        }
    }
    d.region(|s| end(s, groups, h, model.out_channels))
}

fn end(mut s: Scope<'_>, groups: usize, x: Act, cout: usize) -> Result<Act> {
    let h = group_norm(s.at("conv_norm_out"), x, groups, EPS, true)?;
    conv(s.at("conv_out"), h, cout, 3, Conv::same(3))
}

fn mid_block(mut s: Scope<'_>, model: &Model, x: Act) -> Result<Act> {
    let (c, groups) = (s.tape.shape(x).channels(), model.norm_num_groups);
    let mut h = res_block(s.at("resnets.0"), x, c, groups, EPS)?;
    if model.mid_block_add_attention {
        h = pixel_attention(s.at("attentions.0"), h, groups, EPS)?;
    }
    res_block(s.at("resnets.1"), h, c, groups, EPS)
}
