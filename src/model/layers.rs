//! Layers that several models share. Parameters start as PyTorch's do: weights and biases of
//! convolutions and linear layers U(-1/sqrt(fan_in), 1/sqrt(fan_in)), norms at 1 and 0.

use super::Scope;
use crate::error::Result;
use crate::ops::{self, Activation, Conv};
use crate::plan::ParamInit;
use crate::tape::Act;

/// x [n, h, w, cin] -> [n, oh, ow, cout]; parameters `weight` [k, k, cin, cout] and `bias`.
pub fn conv(mut s: Scope<'_>, x: Act, cout: usize, kernel: usize, conv: Conv) -> Result<Act> {
    let cin = s.tape.shape(x).channels();
    let bound = 1.0 / ((cin * kernel * kernel) as f32).sqrt();
    let weight =
        s.param("weight", &[kernel, kernel, cin, cout], ParamInit::Uniform(bound), true)?;
    let bias = s.param("bias", &[cout], ParamInit::Uniform(bound), false)?;
    ops::conv2d(s.tape, x, weight, Some(bias), conv)
}

/// x [n, h, w, cin] -> [n, oh, ow, cout], adjoint to a convolution; parameters `weight`
/// [k, k, cout, cin] and `bias`. PyTorch counts the fan-in of transposed weights from their second
/// dimension, the outputs.
pub fn conv_transpose(
    mut s: Scope<'_>,
    x: Act,
    cout: usize,
    kernel: usize,
    conv: Conv,
) -> Result<Act> {
    let cin = s.tape.shape(x).channels();
    let bound = 1.0 / ((cout * kernel * kernel) as f32).sqrt();
    let weight =
        s.param("weight", &[kernel, kernel, cout, cin], ParamInit::Uniform(bound), true)?;
    let bias = s.param("bias", &[cout], ParamInit::Uniform(bound), false)?;
    ops::conv_transpose2d(s.tape, x, weight, Some(bias), conv)
}

/// Parameters `weight` and `bias` [c].
pub fn group_norm(mut s: Scope<'_>, x: Act, groups: usize, eps: f32, silu: bool) -> Result<Act> {
    let c = s.tape.shape(x).channels();
    let gamma = s.param("weight", &[c], ParamInit::Ones, false)?;
    let beta = s.param("bias", &[c], ParamInit::Zeros, false)?;
    ops::group_norm(s.tape, x, gamma, beta, groups, eps, silu)
}

/// Parameters `weight` and `bias` [c].
pub fn layer_norm(mut s: Scope<'_>, x: Act, eps: f32) -> Result<Act> {
    let c = s.tape.shape(x).channels();
    let gamma = s.param("weight", &[c], ParamInit::Ones, false)?;
    let beta = s.param("bias", &[c], ParamInit::Zeros, false)?;
    ops::layer_norm_affine(s.tape, x, gamma, beta, eps)
}

/// Twice the size by nearest neighbours, then a 3x3 convolution with the name `name`. A region of the
/// tape.
pub fn up_conv(s: Scope<'_>, name: &str, x: Act, cout: usize) -> Result<Act> {
    s.region(|mut s| {
        let h = ops::upsample2x(s.tape, x)?;
        conv(s.at(name), h, cout, 3, Conv::same(3))
    })
}

/// Initialisation of a linear layer.
#[derive(Debug, Clone, Copy)]
pub enum Init {
    /// PyTorch's default.
    FanIn,
    /// N(0, 0.02^2) weights and zero biases, as transformers are started.
    Transformer,
    /// All zero: what follows starts without an effect.
    Zeros,
}

/// x [.., k] -> [.., n]; parameters `weight` [k, n] and `bias` [n].
pub fn linear(mut s: Scope<'_>, x: Act, n: usize, init: Init) -> Result<Act> {
    let k = s.tape.shape(x).channels();
    let (weights, biases) = match init {
        Init::FanIn => {
            let bound = ParamInit::Uniform(1.0 / (k as f32).sqrt());
            (bound.clone(), bound)
        }
        Init::Transformer => (ParamInit::Normal(0.02), ParamInit::Zeros),
        Init::Zeros => (ParamInit::Zeros, ParamInit::Zeros),
    };
    let weight = s.param("weight", &[k, n], weights, true)?;
    let bias = s.param("bias", &[n], biases, false)?;
    ops::linear(s.tape, x, weight, Some(bias))
}

/// x + conv3(SiLU(GN(conv3(SiLU(GN(x)))))); a 1x1 convolution on the way past when the number of
/// channels changes. Names as in diffusers' ResnetBlock2D. A region of the tape.
pub fn res_block(s: Scope<'_>, x: Act, cout: usize, groups: usize, eps: f32) -> Result<Act> {
    s.region(|s| res_block_inside(s, x, cout, groups, eps))
}

fn res_block_inside(mut s: Scope<'_>, x: Act, cout: usize, groups: usize, eps: f32) -> Result<Act> {
    let cin = s.tape.shape(x).channels();
    let h = group_norm(s.at("norm1"), x, groups, eps, true)?;
    let h = conv(s.at("conv1"), h, cout, 3, Conv::same(3))?;
    let h = group_norm(s.at("norm2"), h, groups, eps, true)?;
    let h = conv(s.at("conv2"), h, cout, 3, Conv::same(3))?;
    let past = match cin == cout {
        true => x,
        false => conv(s.at("conv_shortcut"), x, cout, 1, Conv::same(1))?,
    };
    ops::add(s.tape, past, h)
}

/// Self-attention of one head over the pixels of [n, h, w, c], with a residual: diffusers'
/// `Attention` as the VAE mid block uses it. A region of the tape.
pub fn pixel_attention(s: Scope<'_>, x: Act, groups: usize, eps: f32) -> Result<Act> {
    s.region(|s| pixel_attention_inside(s, x, groups, eps))
}

fn pixel_attention_inside(mut s: Scope<'_>, x: Act, groups: usize, eps: f32) -> Result<Act> {
    let shape = s.tape.shape(x);
    let (n, c) = (shape.dims()[0], shape.channels());
    let h = group_norm(s.at("group_norm"), x, groups, eps, false)?;
    let h = s.tape.reshape(h, &[n, shape.rows() / n, c])?;
    let q = linear(s.at("to_q"), h, c, Init::FanIn)?;
    let k = linear(s.at("to_k"), h, c, Init::FanIn)?;
    let v = linear(s.at("to_v"), h, c, Init::FanIn)?;
    let h = ops::attention(s.tape, q, k, v, 1)?;
    let h = linear(s.at("to_out.0"), h, c, Init::FanIn)?;
    let h = s.tape.reshape(h, shape.dims())?;
    ops::add(s.tape, x, h)
}

/// Linear, activation, linear.
pub fn mlp(mut s: Scope<'_>, x: Act, hidden: usize, op: Activation) -> Result<Act> {
    let width = s.tape.shape(x).channels();
    let h = linear(s.at("net.0.proj"), x, hidden, Init::Transformer)?;
    let h = ops::activation(s.tape, h, op)?;
    linear(s.at("net.2"), h, width, Init::Transformer)
}
