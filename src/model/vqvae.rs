//! The VQ-VAE (van den Oord et al., 1711.00937): an autoencoder of either family around a codebook.

use super::{Scope, classic, compact, vqmodel};
use crate::config::{Family, Model, Quantiser, QuantiserKind};
use crate::error::Result;
use crate::ops::{self, Nearest};
use crate::plan::ParamInit;
use crate::tape::{Act, Idx, Tape, ValueId};

/// Names of the codebook's states when it is a moving average.
pub const CODEBOOK: &str = "codebook";
pub const EMA_N: &str = "ema_n";
pub const EMA_M: &str = "ema_m";
/// Name of the codebook parameter when it is trained by gradient (diffusers' name).
pub const CODEBOOK_PARAM: &str = "quantize.embedding.weight";

/// What a training pass yields; both losses are scalars.
#[derive(Debug, Clone, Copy)]
pub struct Losses {
    /// mean (y - x)^2 over pixels in [-1, 1].
    pub reconstruction: Act,
    /// mean (z - sg(code))^2: weighted by beta.
    pub commitment: Act,
    /// mean (sg(z) - code)^2 where the codebook learns by gradient.
    pub codebook: Option<Act>,
    pub z: Act,
    pub nearest: Nearest,
    pub image: Act,
}

/// x in [-1, 1], [n, h, w, c] -> latents [n, h', w', d].
pub fn encode(s: &mut Scope<'_>, model: &Model, x: Act) -> Result<Act> {
    match model.family {
        Family::Classic => classic::encode(s.at("encoder"), model, x),
        Family::Compact => compact::encode(s.at("encoder"), model, x),
        Family::Vqmodel => vqmodel::encode(s.at(""), model, x),
    }
}

/// Codes [n, h', w', d] -> image [n, h, w, c], about in [-1, 1].
pub fn decode(s: &mut Scope<'_>, model: &Model, codes: Act) -> Result<Act> {
    match model.family {
        Family::Classic => classic::decode(s.at("decoder"), model, codes),
        Family::Compact => compact::decode(s.at("decoder"), model, codes),
        Family::Vqmodel => vqmodel::decode(s.at(""), model, codes),
    }
}

/// The codebook [K, d]: a state or a parameter.
pub fn codebook(s: &mut Scope<'_>, model: &Model, kind: QuantiserKind) -> Result<ValueId> {
    let dims = [model.num_vq_embeddings, model.vq_embed_dim];
    match kind {
        QuantiserKind::Ema => Ok(s.tape.state(CODEBOOK, &dims)?.into()),
        QuantiserKind::Gradient => {
            let init = ParamInit::Uniform(1.0 / dims[0] as f32);
            Ok(s.param(CODEBOOK_PARAM, &dims, init, false)?.into())
        }
    }
}

/// The full training pass. The caller weights the losses and calls `backward`.
pub fn training(s: &mut Scope<'_>, model: &Model, kind: QuantiserKind, x: Act) -> Result<Losses> {
    let z = encode(s, model, x)?;
    let book = codebook(s, model, kind)?;
    let nearest = ops::nearest_code(s.tape, z, book)?;
    let passed = ops::straight_through(s.tape, z, nearest.code)?;
    let image = decode(s, model, passed)?;
    let reconstruction = ops::mse(s.tape, image, x)?;
    let fixed = s.tape.detach(nearest.code);
    let commitment = ops::mse(s.tape, z, fixed)?;
    let codebook = match kind {
        QuantiserKind::Ema => None,
        QuantiserKind::Gradient => {
            let dims = [model.num_vq_embeddings, model.vq_embed_dim];
            let init = ParamInit::Uniform(1.0 / dims[0] as f32);
            let table = s.param(CODEBOOK_PARAM, &dims, init, false)?;
            let code = ops::embedding(s.tape, nearest.idx, table)?;
            let still = s.tape.detach(z);
            Some(ops::mse(s.tape, code, still)?)
        }
    };
    Ok(Losses { reconstruction, commitment, codebook, z, nearest, image })
}

/// Launches that gather the step's code statistics (added over lanes) and move the codebook.
/// Call [`Tape::backward`] before: what follows runs once per step.
pub fn move_codebook(
    tape: &mut Tape,
    model: &Model,
    quantiser: &Quantiser,
    losses: &Losses,
) -> Result<()> {
    let (k, d) = (model.num_vq_embeddings, model.vq_embed_dim);
    let (counts, sums) = ops::code_sums(tape, losses.nearest.idx, losses.z, k)?;
    tape.report("code_counts", counts)?;
    tape.report("code_sums", sums)?;
    tape.begin_update();
    let states =
        [tape.state(EMA_N, &[k])?, tape.state(EMA_M, &[k, d])?, tape.state(CODEBOOK, &[k, d])?];
    let (decay, eps) = (quantiser.ema_decay as f32, quantiser.ema_eps as f32);
    ops::ema_codebook(tape, (counts, sums), states, decay, eps)
}

/// x -> (code indices, distances, reconstruction): evaluation.
pub fn reconstruct(
    s: &mut Scope<'_>,
    model: &Model,
    kind: QuantiserKind,
    x: Act,
) -> Result<(Nearest, Act)> {
    let z = encode(s, model, x)?;
    let book = codebook(s, model, kind)?;
    let nearest = ops::nearest_code(s.tape, z, book)?;
    let image = decode(s, model, nearest.code)?;
    Ok((nearest, image))
}

/// Code indices [n * h' * w'] -> images.
pub fn decode_indices(
    s: &mut Scope<'_>,
    model: &Model,
    kind: QuantiserKind,
    idx: Idx,
    [n, h, w]: [usize; 3],
) -> Result<Act> {
    let book = codebook(s, model, kind)?;
    let codes = ops::lookup(s.tape, idx, book)?;
    let codes = s.tape.reshape(codes, &[n, h, w, model.vq_embed_dim])?;
    decode(s, model, codes)
}
