//! Products of two tensors, element by element.

use super::expect_elements;
use crate::error::Result;
use crate::kernels::binary::{Binary, BinaryOp};
use crate::tape::{Act, Tape};

/// y = a b, same shape. The gradient of a is dy b, that of b dy a.
pub fn mul(tape: &mut Tape, a: Act, b: Act) -> Result<Act> {
    tape.begin_op("mul");
    let n = tape.shape(a).elements();
    expect_elements("mul", "b", tape.shape(b), n)?;
    let y = tape.temp_like(a);
    let kernel = Binary { op: BinaryOp::Mul, n, b_len: n, accum: false, alpha: 1.0 };
    tape.launch(kernel, &[a.into(), b.into(), y.into()])?;
    tape.record("mul", &[a.into(), b.into()], y, move |t, dy| {
        for (of, other) in [(a, b), (b, a)] {
            let Some(d) = t.target(of) else { continue };
            let kernel = Binary { op: BinaryOp::Mul, n, b_len: n, accum: d.accum, alpha: 1.0 };
            t.launch_into(d, kernel, &[dy.into(), other.into(), d.value.into()])?;
        }
        Ok(())
    });
    Ok(y)
}
