//! Squared error.

use super::expect_elements;
use crate::error::Result;
use crate::kernels::mse_grad::MseGrad;
use crate::kernels::sum_all::{SumAll, SumOp};
use crate::kernels::sum_finish::SumFinish;
use crate::tape::{Act, Tape};

/// mean((a - b)^2), a scalar. Gradients flow into both; detach one for a commitment term.
pub fn mse(tape: &mut Tape, a: Act, b: Act) -> Result<Act> {
    let n = tape.shape(a).elements();
    sum_of_squared_errors(tape, a, b, 1.0 / n as f32)
}

/// factor * sum((a - b)^2), a scalar.
pub fn sum_of_squared_errors(tape: &mut Tape, a: Act, b: Act, factor: f32) -> Result<Act> {
    tape.begin_op("mse");
    let n = tape.shape(a).elements();
    expect_elements("mse", "b", tape.shape(b), n)?;
    let loss = sum(tape, SumOp::SquaredDifference, a, Some(b), factor)?;
    tape.record("mse", &[a.into(), b.into()], loss, move |t, dy| {
        for (x, sign) in [(a, 2.0), (b, -2.0)] {
            let Some(dx) = t.target(x) else { continue };
            let kernel = MseGrad { n, factor: sign * factor, accum: dx.accum };
            t.launch_into(dx, kernel, &[a.into(), b.into(), dy.into(), dx.value.into()])?;
        }
        Ok(())
    });
    Ok(loss)
}

/// factor * sum op(x[, b]) in two stages of fixed order.
pub(super) fn sum(tape: &mut Tape, op: SumOp, x: Act, b: Option<Act>, factor: f32) -> Result<Act> {
    let n = tape.shape(x).elements();
    let p = (n / 4096).clamp(1, 256);
    let partials = tape.temp(&[p])?;
    let y = tape.temp(&[1])?;
    let binds = super::ids(&[Some(x.into()), b.map(Into::into), Some(partials.into())]);
    tape.launch(SumAll { n, op, partials: p, factor: 1.0 }, &binds)?;
    tape.launch(SumFinish { p, factor, accum: false }, &[partials.into(), y.into()])?;
    Ok(y)
}
