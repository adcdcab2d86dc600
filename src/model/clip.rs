//! The text part of CLIP (Radford et al. 2021, 2103.00020): transformers' `CLIPTextModel`, whose names
//! its parameters have. It is not trained here.
//!
//! x = token + place embedding; each layer x += CausalAttn(LN(x)), x += MLP(LN(x)); a last LN.

use super::Scope;
use super::layers::{Init, layer_norm, linear};
use crate::error::Result;
use crate::ops::{self, Activation};
use crate::plan::ParamInit;
use crate::tape::{Act, Idx};

/// Sizes of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipText {
    pub vocabulary: usize,
    /// Tokens of a text, padding included.
    pub length: usize,
    pub width: usize,
    pub heads: usize,
    pub layers: usize,
    /// Of the layers' MLP.
    pub hidden: usize,
    /// [`Activation::GeluSigmoid`] in OpenAI's models ("quick_gelu"), else [`Activation::Gelu`].
    pub activation: Activation,
    pub eps: f32,
}

impl ClipText {
    /// tokens [batch * length] below `vocabulary` -> the last hidden state [batch, length, width].
    pub fn hidden(&self, s: &mut Scope<'_>, tokens: Idx, batch: usize) -> Result<Act> {
        let mut s = s.frozen();
        let mut s = s.at("text_model");
        let mut x = self.embed(s.at("embeddings"), tokens, batch)?;
        for i in 0..self.layers {
            let mut s = s.at(format!("encoder.layers.{i}"));
            let h = layer_norm(s.at("layer_norm1"), x, self.eps)?;
            let h = self.attention(s.at("self_attn"), h)?;
            x = ops::add(s.tape, x, h)?;
            let h = layer_norm(s.at("layer_norm2"), x, self.eps)?;
            let h = linear(s.at("mlp.fc1"), h, self.hidden, Init::Transformer)?;
            let h = ops::activation(s.tape, h, self.activation)?;
            let h = linear(s.at("mlp.fc2"), h, self.width, Init::Transformer)?;
            x = ops::add(s.tape, x, h)?;
        }
        layer_norm(s.at("final_layer_norm"), x, self.eps)
    }

    fn embed(&self, mut s: Scope<'_>, tokens: Idx, batch: usize) -> Result<Act> {
        let mut table = |name: &str, rows: usize| {
            s.param(name, &[rows, self.width], ParamInit::Normal(0.02), false)
        };
        let token = table("token_embedding.weight", self.vocabulary)?;
        let place = table("position_embedding.weight", self.length)?;
        let x = ops::embedding(s.tape, tokens, token)?;
        let x = s.tape.reshape(x, &[batch, self.length, self.width])?;
        let places = s.tape.constant_idx(&[self.length], (0..self.length as u32).collect())?;
        let places = ops::embedding(s.tape, places, place)?;
        ops::add_repeated(s.tape, x, places)
    }

    fn attention(&self, mut s: Scope<'_>, x: Act) -> Result<Act> {
        let mut project = |name: &str| linear(s.at(name), x, self.width, Init::Transformer);
        let (q, k, v) = (project("q_proj")?, project("k_proj")?, project("v_proj")?);
        let h = ops::causal_attention(s.tape, q, k, v, self.heads)?;
        linear(s.at("out_proj"), h, self.width, Init::Transformer)
    }
}
