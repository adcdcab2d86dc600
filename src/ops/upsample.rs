//! Nearest-neighbour upsampling by two.

use super::nhwc;
use crate::error::Result;
use crate::kernels::upsample2x::{Upsample2x, Upsample2xBwd};
use crate::tape::{Act, Tape};

/// x [n, h, w, c] -> y [n, 2h, 2w, c], every pixel four times; the gradient sums the four.
pub fn upsample2x(tape: &mut Tape, x: Act) -> Result<Act> {
    tape.begin_op("upsample2x");
    let [n, h, w, c] = nhwc(tape, "upsample2x", x)?;
    let y = tape.temp(&[n, 2 * h, 2 * w, c])?;
    tape.launch(Upsample2x { n, h, w, c }, &[x.into(), y.into()])?;
    tape.record("upsample2x", &[x.into()], y, move |t, dy| {
        let Some(dx) = t.target(x) else { return Ok(()) };
        let kernel = Upsample2xBwd { n, h, w, c, accum: dx.accum };
        t.launch_into(dx, kernel, &[dy.into(), dx.value.into()])
    });
    Ok(y)
}
