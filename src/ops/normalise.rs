//! Rows of unit length.

use crate::error::Result;
use crate::kernels::normalise_rows::{NormaliseMode, NormaliseRows};
use crate::tape::{Act, Tape};

/// x [.., d] -> y = x / max(|x|, 1e-6), |x| over the last dimension. With g the incoming gradient
/// that of x is (g - y (y . g)) / |x|, and g / 1e-6 where |x| is below 1e-6.
pub fn normalise_rows(tape: &mut Tape, x: Act) -> Result<Act> {
    tape.begin_op("normalise_rows");
    let (rows, d) = (tape.shape(x).rows(), tape.shape(x).channels());
    let y = tape.temp_like(x);
    let kernel = NormaliseRows { rows, d, mode: NormaliseMode::Forward };
    tape.launch(kernel, &[x.into(), y.into()])?;
    tape.record("normalise_rows", &[x.into()], y, move |t, dy| {
        let Some(dx) = t.target(x) else { return Ok(()) };
        let mode = NormaliseMode::Backward { accum: dx.accum };
        let binds = [x.into(), dy.into(), dx.value.into()];
        t.launch_into(dx, NormaliseRows { rows, d, mode }, &binds)
    });
    Ok(y)
}

/// Brings the rows of `state` [k, d] to unit length, in place: a codebook of directions after its
/// update. Nothing moves when the step's gradient was not finite (`ctl`).
pub fn normalise_state(tape: &mut Tape, state: Act) -> Result<()> {
    tape.begin_op("normalise_state");
    let (rows, d) = (tape.shape(state).rows(), tape.shape(state).channels());
    let ctl = tape.state("ctl", &[4])?;
    let kernel = NormaliseRows { rows, d, mode: NormaliseMode::InPlace };
    tape.launch(kernel, &[ctl.into(), state.into()])
}
