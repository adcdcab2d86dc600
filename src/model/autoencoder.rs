//! The autoencoder: a backbone of some family around a bottleneck, the codes of a VQ-VAE (van den
//! Oord et al., 1711.00937) or the Gaussians of a KL-VAE (Kingma & Welling, 1312.6114).

use super::losses::{self, Term};
use super::quantiser::{self, Search};
use super::{Scope, classic, compact, vqmodel};
use crate::config::{Bottleneck, Config, Family, Model};
use crate::error::Result;
use crate::ops;
use crate::tape::{Act, Idx};

/// Name of the term that a KL-VAE adds to the loss: the divergence in nats an image.
pub const KL: &str = "kl";

/// What a training pass yields.
#[derive(Debug, Clone)]
pub struct Pass {
    pub image: Act,
    pub terms: Vec<Term>,
    /// Of every codebook.
    pub searches: Vec<Search>,
}

/// What an evaluation yields.
#[derive(Debug, Clone)]
pub struct Reconstruction {
    pub image: Act,
    /// Code indices [n * h' * w'] for each head; none for a KL-VAE.
    pub idx: Vec<Idx>,
    /// Of a KL-VAE: mean and logarithm of the variance of every latent.
    pub moments: Option<Act>,
}

/// x in [-1, 1], [n, h, w, c] -> latents [n, h', w', d], or the moments [n, h', w', 2 d] of a KL-VAE.
pub fn encode(s: &mut Scope<'_>, model: &Model, x: Act) -> Result<Act> {
    match model.family {
        Family::Classic => classic::encode(s.at("encoder"), model, x),
        Family::Compact => compact::encode(s.at("encoder"), model, x),
        Family::Vqmodel => vqmodel::encode(s.at(""), model, x),
    }
}

/// Codes or samples [n, h', w', d] -> image [n, h, w, c], about in [-1, 1].
pub fn decode(s: &mut Scope<'_>, model: &Model, codes: Act) -> Result<Act> {
    match model.family {
        Family::Classic => classic::decode(s.at("decoder"), model, codes),
        Family::Compact => compact::decode(s.at("decoder"), model, codes),
        Family::Vqmodel => vqmodel::decode(s.at(""), model, codes),
    }
}

/// A sample of the Gaussians whose moments are given, with a gradient to them.
fn sample(s: &mut Scope<'_>, moments: Act) -> Result<Act> {
    let shape = s.tape.shape(moments);
    let dims = [&shape.dims()[..shape.rank() - 1], &[shape.channels() / 2]].concat();
    let noise = ops::gaussian_noise(s.tape, &dims)?;
    ops::sample_gaussian(s.tape, moments, noise)
}

/// The full training pass. The caller adds the terms up and calls `backward`.
pub fn training(s: &mut Scope<'_>, config: &Config, x: Act) -> Result<Pass> {
    let model = &config.model;
    let z = encode(s, model, x)?;
    let (code, bottleneck, searches) = match model.bottleneck {
        Bottleneck::Vq => {
            let made = quantiser::build(config).training(s, z)?;
            (made.code, made.terms, made.searches)
        }
        Bottleneck::Kl => {
            let per_image = 1.0 / s.tape.shape(x).dims()[0] as f32;
            let kl = ops::kl_divergence(s.tape, z, per_image)?;
            (sample(s, z)?, vec![Term::new(KL, kl, config.kl.weight as f32)], vec![])
        }
    };
    let image = decode(s, model, code)?;
    let mut terms = losses::reconstruction(s, &config.loss, image, x)?;
    terms.extend(bottleneck);
    Ok(Pass { image, terms, searches })
}

/// There and back: what held-out images become. A KL-VAE decodes a sample, not the mean: the mean
/// would be bits that its divergence does not pay for.
pub fn reconstruct(s: &mut Scope<'_>, config: &Config, x: Act) -> Result<Reconstruction> {
    let z = encode(s, &config.model, x)?;
    let (idx, code, moments) = match config.model.bottleneck {
        Bottleneck::Vq => {
            let (idx, code) = quantiser::build(config).quantise(s, z)?;
            (idx, code, None)
        }
        Bottleneck::Kl => (vec![], sample(s, z)?, Some(z)),
    };
    let image = decode(s, &config.model, code)?;
    Ok(Reconstruction { image, idx, moments })
}

/// x -> code indices [n * h' * w'] for each head.
pub fn codes(s: &mut Scope<'_>, config: &Config, x: Act) -> Result<Vec<Idx>> {
    let z = encode(s, &config.model, x)?;
    Ok(quantiser::build(config).quantise(s, z)?.0)
}

/// x -> what the decoder is given without noise [n, h', w', d]: the vectors of the codes, or the means of the
/// Gaussians.
pub fn latents(s: &mut Scope<'_>, config: &Config, x: Act) -> Result<Act> {
    let z = encode(s, &config.model, x)?;
    match config.model.bottleneck {
        Bottleneck::Vq => Ok(quantiser::build(config).quantise(s, z)?.1),
        Bottleneck::Kl => ops::slice_columns(s.tape, z, 0, config.model.vq_embed_dim),
    }
}

/// Points of the decoder's space [n, h', w', d] -> the nearest codes, as indices for each head and as
/// vectors. A KL-VAE has no codes, and the points stay as they are.
pub fn round(s: &mut Scope<'_>, config: &Config, points: Act) -> Result<(Vec<Idx>, Act)> {
    match config.model.bottleneck {
        Bottleneck::Vq => quantiser::build(config).nearest(s, points),
        Bottleneck::Kl => Ok((vec![], points)),
    }
}

/// Code indices [n * h' * w'] of each head -> images.
pub fn decode_indices(
    s: &mut Scope<'_>,
    config: &Config,
    idx: &[Idx],
    [n, h, w]: [usize; 3],
) -> Result<Act> {
    let codes = quantiser::build(config).lookup(s, idx)?;
    let codes = s.tape.reshape(codes, &[n, h, w, config.model.vq_embed_dim])?;
    decode(s, &config.model, codes)
}
