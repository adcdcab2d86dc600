//! Weighted softmax cross-entropy.

use super::expect_elements;
use crate::error::Result;
use crate::kernels::scale_by::ScaleBy;
use crate::kernels::softmax_ce::{SoftmaxCe, SoftmaxCeBwd};
use crate::kernels::sum_all::SumOp;
use crate::tape::{Act, Idx, Tape};

/// logits [rows, k], target [rows] in 0..k, weight [rows] ->
/// factor * sum over rows of weight * -log softmax(logits)[target], a scalar, and the loss of every
/// row. A row of weight 0 counts nothing and gets no gradient.
pub fn cross_entropy(
    tape: &mut Tape,
    logits: Act,
    target: Idx,
    weight: Act,
    factor: f32,
) -> Result<(Act, Act)> {
    tape.begin_op("cross_entropy");
    let shape = tape.shape(logits);
    let (rows, k) = (shape.rows(), shape.channels());
    expect_elements("cross_entropy", "target", tape.shape(target), rows)?;
    expect_elements("cross_entropy", "weight", tape.shape(weight), rows)?;
    let (loss, lse) = (tape.temp(&[rows])?, tape.temp(&[rows])?);
    tape.launch(
        SoftmaxCe { rows, k },
        &[logits.into(), target.into(), weight.into(), loss.into(), lse.into()],
    )?;
    let total = super::mse::sum(tape, SumOp::Identity, loss, None, factor)?;
    tape.record("cross_entropy", &[logits.into()], total, move |t, dy| {
        let Some(dx) = t.target(logits) else { return Ok(()) };
        let ones = t.constant(&[rows], vec![1.0; rows])?;
        let drow = t.temp(&[rows])?;
        let spread = ScaleBy { n: rows, factor, accum: false };
        t.launch(spread, &[ones.into(), dy.into(), drow.into()])?;
        let binds =
            [logits.into(), target.into(), weight.into(), lse.into(), drow.into(), dx.value.into()];
        t.launch_into(dx, SoftmaxCeBwd { rows, k, accum: dx.accum }, &binds)
    });
    Ok((total, loss))
}
