//! Vector quantisation: nearest code, straight-through estimator, moving-average codebook.

use super::expect_elements;
use crate::error::Result;
use crate::kernels::code_sums::CodeSums;
use crate::kernels::ema_codebook::{EmaCodebook, EmaCounts};
use crate::kernels::nearest_code::NearestCode;
use crate::tape::{Act, Idx, Tape, ValueId};

/// Result of the search, one entry a row.
#[derive(Debug, Clone, Copy)]
pub struct Nearest {
    /// Index of the nearest code; the lowest wins ties.
    pub idx: Idx,
    /// Squared distance to it.
    pub d2: Act,
    /// The code itself, without a gradient.
    pub code: Act,
}

/// z [.., d], codebook [k, d] -> for each row argmin_k |z - e_k|^2 (1711.00937). Nothing here is
/// differentiable: see [`straight_through`] and `embedding`.
pub fn nearest_code(tape: &mut Tape, z: Act, codebook: impl Into<ValueId>) -> Result<Nearest> {
    search(tape, "nearest_code", z, codebook.into(), false)
}

/// As [`nearest_code`], by direction: argmax_k z^ . e^_k with z^ = z / |z| and e^ = e / |e|, and `d2`
/// = |z^ - e^|^2. Neither z nor the codebook need be of unit length; `code` is the row as stored.
pub fn nearest_code_cosine(
    tape: &mut Tape,
    z: Act,
    codebook: impl Into<ValueId>,
) -> Result<Nearest> {
    search(tape, "nearest_code_cosine", z, codebook.into(), true)
}

fn search(
    tape: &mut Tape,
    op: &'static str,
    z: Act,
    codebook: ValueId,
    cosine: bool,
) -> Result<Nearest> {
    tape.begin_op(op);
    let (n, d, k) = (tape.shape(z).rows(), tape.shape(z).channels(), tape.shape(codebook).rows());
    expect_elements(op, "codebook", tape.shape(codebook), k * d)?;
    let (idx, d2) = (tape.temp_idx(&[n])?, tape.temp(&[n])?);
    let kernel = NearestCode { cosine, ..NearestCode::new(n, k, d) };
    tape.launch(kernel, &[z.into(), codebook, idx.into(), d2.into()])?;
    let code = super::lookup(tape, idx, codebook)?;
    let code = tape.alias(code.into(), tape.shape(z));
    Ok(Nearest { idx, d2, code })
}

/// Value of `code`, gradient to `z` (Bengio et al. 2013): z + sg(code - z).
pub fn straight_through(tape: &mut Tape, z: Act, code: Act) -> Result<Act> {
    tape.begin_op("straight_through");
    let n = tape.shape(z).elements();
    expect_elements("straight_through", "code", tape.shape(code), n)?;
    let y = tape.detach(code);
    tape.record("straight_through", &[z.into()], y, move |t, dy| t.add_grad(z, dy));
    Ok(y)
}

/// Tokens and sum of latents per code: counts [k], sums [k, d].
pub fn code_sums(tape: &mut Tape, idx: Idx, z: Act, k: usize) -> Result<(Act, Act)> {
    tape.begin_op("code_sums");
    let (n, d) = (tape.shape(z).rows(), tape.shape(z).channels());
    expect_elements("code_sums", "idx", tape.shape(idx), n)?;
    let (counts, sums) = (tape.temp(&[k])?, tape.temp(&[k, d])?);
    let kernel = CodeSums { n, k, d, accum: false };
    tape.launch(kernel, &[idx.into(), z.into(), counts.into(), sums.into()])?;
    Ok((counts, sums))
}

/// Moves the codebook: states `ema_n` [k], `ema_m` [k, d] and `codebook` [k, d] in place, from the
/// counts and sums of the step. Nothing moves when the step's gradient was not finite (`ctl`).
pub fn ema_codebook(
    tape: &mut Tape,
    (counts, sums): (Act, Act),
    [ema_n, ema_m, codebook]: [Act; 3],
    decay: f32,
    eps: f32,
) -> Result<()> {
    tape.begin_op("ema_codebook");
    let (k, d) = (tape.shape(codebook).rows(), tape.shape(codebook).channels());
    let ctl = tape.state("ctl", &[4])?;
    let total = tape.temp(&[1])?;
    let counted = [counts.into(), ctl.into(), ema_n.into(), total.into()];
    tape.launch(EmaCounts { k, decay }, &counted)?;
    tape.launch(
        EmaCodebook { k, d, decay, eps },
        &[sums.into(), ctl.into(), ema_n.into(), total.into(), ema_m.into(), codebook.into()],
    )
}

/// Counts alone, for codes that do not follow their latents: `ema_n` [k] in place.
pub fn ema_counts(tape: &mut Tape, counts: Act, ema_n: Act, decay: f32) -> Result<()> {
    tape.begin_op("ema_counts");
    let k = tape.shape(ema_n).elements();
    let ctl = tape.state("ctl", &[4])?;
    let total = tape.temp(&[1])?;
    let binds = [counts.into(), ctl.into(), ema_n.into(), total.into()];
    tape.launch(EmaCounts { k, decay }, &binds)
}
