//! Sums of two tensors.

use super::expect_elements;
use crate::error::Result;
use crate::kernels::binary::{Binary, BinaryOp};
use crate::kernels::col_sum::ColSum;
use crate::kernels::sum_partials::SumPartials;
use crate::tape::{Act, Tape};

/// y = a + b, same shape. Both gradients are dy itself: nothing is launched.
pub fn add(tape: &mut Tape, a: Act, b: Act) -> Result<Act> {
    tape.begin_op("add");
    let n = tape.shape(a).elements();
    expect_elements("add", "b", tape.shape(b), n)?;
    let y = tape.temp_like(a);
    let kernel = Binary { op: BinaryOp::Add, n, b_len: n, accum: false, alpha: 1.0 };
    tape.launch(kernel, &[a.into(), b.into(), y.into()])?;
    tape.record("add", &[a.into(), b.into()], y, move |t, dy| {
        t.add_grad(a, dy)?;
        t.add_grad(b, dy)
    });
    Ok(y)
}

/// y[i] = a[i] + b[i mod |b|]: a table of positions added to every sample of a batch.
pub fn add_repeated(tape: &mut Tape, a: Act, b: Act) -> Result<Act> {
    tape.begin_op("add_repeated");
    let (n, b_len) = (tape.shape(a).elements(), tape.shape(b).elements());
    expect_elements("add_repeated", "a", tape.shape(a), n / b_len * b_len)?;
    let y = tape.temp_like(a);
    let kernel = Binary { op: BinaryOp::Add, n, b_len, accum: false, alpha: 1.0 };
    tape.launch(kernel, &[a.into(), b.into(), y.into()])?;
    tape.record("add_repeated", &[a.into(), b.into()], y, move |t, dy| {
        t.add_grad(a, dy)?;
        let Some(db) = t.target(b) else { return Ok(()) };
        let partials = t.temp(&[1, b_len])?;
        let sum = ColSum { rows: n / b_len, cols: b_len, splits: 1 };
        t.launch(sum, &[dy.into(), partials.into()])?;
        let finish = SumPartials { splits: 1, n: b_len, accum: db.accum };
        t.launch_into(db, finish, &[partials.into(), db.value.into()])
    });
    Ok(y)
}
