//! The loss of a step of a discrete diffusion.

use super::expect_elements;
use crate::error::Result;
pub use crate::kernels::posterior_loss::{NOISE, Noise};
use crate::kernels::posterior_loss::{PosteriorLoss, TokenRows};
use crate::kernels::posterior_loss_bwd::PosteriorLossBwd;
use crate::kernels::scale_by::ScaleBy;
use crate::kernels::sum_all::SumOp;
use crate::tape::{Act, Idx, Tape};

/// logits [samples * length, codes], the codes x_0 [samples * length] and what is seen of them, x_t, in
/// 0..=codes (the mask last), and the noise of every sample [samples, 10] ([`Noise::words`]) -> factor *
/// the sum of the losses of all tokens, a scalar, and the value of each, [samples * length]: its
/// divergence, without the factors of the bound and the auxiliary term. `weights` are those of masked and
/// of seen tokens. Formulas and sources: [`crate::kernels::posterior_loss`].
pub fn posterior_loss(
    tape: &mut Tape,
    logits: Act,
    [x_0, x_t]: [Idx; 2],
    noise: Act,
    weights: [f32; 2],
    factor: f32,
) -> Result<(Act, Act)> {
    const OP: &str = "posterior_loss";
    tape.begin_op(OP);
    let (rows, codes) = (tape.shape(logits).rows(), tape.shape(logits).channels());
    let samples = tape.shape(noise).rows();
    let length = rows / samples;
    expect_elements(OP, "noise", tape.shape(noise), samples * NOISE)?;
    expect_elements(OP, "x_0", tape.shape(x_0), samples * length)?;
    expect_elements(OP, "x_t", tape.shape(x_t), samples * length)?;
    expect_elements(OP, "logits", tape.shape(logits), samples * length * codes)?;
    let of = TokenRows { samples, length, codes, weights };
    let (value, loss) = (tape.temp(&[rows])?, tape.temp(&[rows])?);
    let stats = tape.temp(&[rows, 2])?;
    let tokens = [logits.into(), x_0.into(), x_t.into(), noise.into()];
    let outputs = [value.into(), loss.into(), stats.into()];
    tape.launch(PosteriorLoss { of }, &[&tokens[..], &outputs].concat())?;
    let total = super::mse::sum(tape, SumOp::Identity, loss, None, factor)?;
    tape.record(OP, &[logits.into()], total, move |t, dy| {
        let Some(dx) = t.target(logits) else { return Ok(()) };
        let ones = t.constant(&[rows], vec![1.0; rows])?;
        let each = t.temp(&[rows])?;
        let spread = ScaleBy { n: rows, factor, accum: false };
        t.launch(spread, &[ones.into(), dy.into(), each.into()])?;
        let rest = [stats.into(), each.into(), dx.value.into()];
        let kernel = PosteriorLossBwd { of, accum: dx.accum };
        t.launch_into(dx, kernel, &[&tokens[..], &rest].concat())
    });
    Ok((total, value))
}
