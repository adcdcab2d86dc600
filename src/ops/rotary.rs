//! Rotary positions (Su et al. 2021).

use crate::error::{Error, Result};
use crate::kernels::rotary::Rotary;
use crate::tape::{Act, Tape};

/// x [b, length, heads * d], every head of which is turned pair by pair by the angles of its place: table
/// [length, d] holds the cosine and sine of each pair, and has no gradient. The gradient turns back.
///
/// # Errors
/// Sizes that do not fit; d that is no multiple of 4; a table that a gradient would have to reach.
pub fn rotary(tape: &mut Tape, x: Act, table: Act) -> Result<Act> {
    tape.begin_op("rotary");
    let (shape, angles) = (tape.shape(x), tape.shape(table));
    let (rows, width) = (shape.rows(), shape.channels());
    let (length, d) = (angles.rows(), angles.channels());
    if d % 4 != 0 || width % d != 0 || rows % length != 0 {
        return Err(Error::failed(format!("rotary: angles {angles} do not fit {shape}")));
    }
    if tape.requires_grad(table) {
        return Err(Error::failed("rotary: the angles depend on a parameter; detach them"));
    }
    let y = tape.temp_like(x);
    let kernel = Rotary { rows, length, heads: width / d, d, back: false, accum: false };
    tape.launch(kernel.clone(), &[x.into(), table.into(), y.into()])?;
    tape.record("rotary", &[x.into()], y, move |t, dy| {
        let Some(dx) = t.target(x) else { return Ok(()) };
        let kernel = Rotary { back: true, accum: dx.accum, ..kernel };
        t.launch_into(dx, kernel, &[dy.into(), table.into(), dx.value.into()])
    });
    Ok(y)
}
