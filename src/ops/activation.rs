//! y = f(x), elementwise.

use crate::error::Result;
use crate::kernels::unary::{Activation, Unary};
use crate::tape::{Act, Tape};

/// x of any shape -> the same shape.
pub fn activation(tape: &mut Tape, x: Act, op: Activation) -> Result<Act> {
    tape.begin_op("activation");
    let n = tape.shape(x).elements();
    let y = tape.temp_like(x);
    tape.launch(Unary { op, n, backward: false, accum: false }, &[x.into(), y.into()])?;
    tape.record("activation", &[x.into()], y, move |t, dy| {
        let Some(dx) = t.target(x) else { return Ok(()) };
        let kernel = Unary { op, n, backward: true, accum: dx.accum };
        t.launch_into(dx, kernel, &[x.into(), dy.into(), dx.value.into()])
    });
    Ok(y)
}
