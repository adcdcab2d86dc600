//! Random operations on tokens: masking for training, drawing for sampling.

use super::expect_elements;
use crate::error::Result;
use crate::kernels::corrupt_tokens::CorruptTokens;
use crate::kernels::draw_tokens::DrawTokens;
use crate::kernels::mask_tokens::MaskTokens;
use crate::tape::{Act, Idx, Tape};

/// codes [batch * length], masked [batch] (probability), weight [batch] -> tokens with codes replaced
/// by `mask` at random, and the weight of every token: the sample's where masked, 0 elsewhere.
pub fn mask_tokens(
    tape: &mut Tape,
    codes: Idx,
    masked: Act,
    weight: Act,
    length: usize,
    mask: u32,
) -> Result<(Idx, Act)> {
    tape.begin_op("mask_tokens");
    let batch = tape.shape(masked).elements();
    expect_elements("mask_tokens", "codes", tape.shape(codes), batch * length)?;
    let tokens = tape.temp_idx(&[batch * length])?;
    let weights = tape.temp(&[batch * length])?;
    let kernel = MaskTokens { batch, len: length, mask_token: mask };
    tape.launch(
        kernel,
        &[codes.into(), masked.into(), weight.into(), tokens.into(), weights.into()],
    )?;
    Ok((tokens, weights))
}

/// codes [samples * length] and the noise of every sample [samples, 10] ([`super::Noise::words`]) -> a
/// draw of x_t, in 0..=`count` codes, the mask last.
pub fn corrupt_tokens(
    tape: &mut Tape,
    codes: Idx,
    noise: Act,
    length: usize,
    count: usize,
) -> Result<Idx> {
    tape.begin_op("corrupt_tokens");
    let samples = tape.shape(noise).rows();
    expect_elements("corrupt_tokens", "codes", tape.shape(codes), samples * length)?;
    let tokens = tape.temp_idx(&[samples * length])?;
    let kernel = CorruptTokens { samples, length, codes: count };
    tape.launch(kernel, &[codes.into(), noise.into(), tokens.into()])?;
    Ok(tokens)
}

/// What is drawn from each row of logits.
#[derive(Debug, Clone, Copy)]
pub struct Draws {
    /// [rows].
    pub token: Idx,
    /// Log-probability of the token at temperature 1, [rows].
    pub logp: Act,
    /// Largest probability of the row at temperature 1, [rows].
    pub purity: Act,
}

/// logits [rows, k] -> one draw a row; `guided`: logits [2 rows, k], the unconditional branch first -> one
/// draw a row from the guided distribution. See [`DrawTokens`].
pub fn draw_tokens(tape: &mut Tape, logits: Act, guided: bool) -> Result<Draws> {
    tape.begin_op("draw_tokens");
    let (all, k) = (tape.shape(logits).rows(), tape.shape(logits).channels());
    let rows = if guided { all / 2 } else { all };
    let (token, logp) = (tape.temp_idx(&[rows])?, tape.temp(&[rows])?);
    let purity = tape.temp(&[rows])?;
    let kernel = DrawTokens { rows, k, guided };
    tape.launch(kernel, &[logits.into(), token.into(), logp.into(), purity.into()])?;
    Ok(Draws { token, logp, purity })
}
