//! Means over a tensor, as they stand or behind a hinge.

use super::activation::activation;
use super::mse::sum;
use crate::error::Result;
use crate::kernels::binary::{Binary, BinaryOp};
use crate::kernels::sum_all::SumOp;
use crate::kernels::unary::Activation;
use crate::tape::{Act, Tape};

/// The mean of all elements, a scalar.
pub fn mean(tape: &mut Tape, x: Act) -> Result<Act> {
    tape.begin_op("mean");
    let n = tape.shape(x).elements();
    let factor = 1.0 / n as f32;
    let y = sum(tape, SumOp::Identity, x, None, factor)?;
    tape.record("mean", &[x.into()], y, move |t, dy| {
        let Some(dx) = t.target(x) else { return Ok(()) };
        let ones = t.constant(&[n], vec![1.0; n])?;
        // Every element gets factor dy.
        let kernel = Binary { op: BinaryOp::Mul, n, b_len: 1, accum: dx.accum, alpha: factor };
        t.launch_into(dx, kernel, &[ones.into(), dy.into(), dx.value.into()])
    });
    Ok(y)
}

/// mean max(0, 1 + sign x), a scalar: what is left of a margin of 1. With sign -1 for logits that
/// should be above 1, with +1 for those that should be below -1.
pub fn hinge(tape: &mut Tape, x: Act, sign: f32) -> Result<Act> {
    tape.begin_op("hinge");
    let n = tape.shape(x).elements();
    let one = tape.constant(&[1], vec![1.0])?;
    let towards = tape.constant(&[1], vec![sign])?;
    let (signed, margin) = (tape.temp_like(x), tape.temp_like(x));
    let by = |op| Binary { op, n, b_len: 1, accum: false, alpha: 1.0 };
    tape.launch(by(BinaryOp::Mul), &[x.into(), towards.into(), signed.into()])?;
    tape.launch(by(BinaryOp::Add), &[signed.into(), one.into(), margin.into()])?;
    tape.record("hinge", &[x.into()], margin, move |t, dy| {
        let Some(dx) = t.target(x) else { return Ok(()) };
        let kernel = Binary { op: BinaryOp::Mul, n, b_len: 1, accum: dx.accum, alpha: 1.0 };
        t.launch_into(dx, kernel, &[dy.into(), towards.into(), dx.value.into()])
    });
    let left = activation(tape, margin, Activation::Relu)?;
    mean(tape, left)
}
