//! Differences of two tensors.

use super::expect_elements;
use crate::error::Result;
use crate::kernels::binary::{Binary, BinaryOp};
use crate::kernels::scale_by::ScaleBy;
use crate::tape::{Act, Tape};

/// y = a - b, same shape. The gradient of a is dy itself, that of b is -dy.
pub fn sub(tape: &mut Tape, a: Act, b: Act) -> Result<Act> {
    tape.begin_op("sub");
    let n = tape.shape(a).elements();
    expect_elements("sub", "b", tape.shape(b), n)?;
    let y = tape.temp_like(a);
    let kernel = Binary { op: BinaryOp::Sub, n, b_len: n, accum: false, alpha: 1.0 };
    tape.launch(kernel, &[a.into(), b.into(), y.into()])?;
    tape.record("sub", &[a.into(), b.into()], y, move |t, dy| {
        t.add_grad(a, dy)?;
        let Some(db) = t.target(b) else { return Ok(()) };
        let one = t.constant(&[1], vec![1.0])?;
        let kernel = ScaleBy { n, factor: -1.0, accum: db.accum };
        t.launch_into(db, kernel, &[dy.into(), one.into(), db.value.into()])
    });
    Ok(y)
}
