//! Scaling by a scalar of the step.

use super::expect_elements;
use crate::error::{Error, Result};
use crate::kernels::scale_by::ScaleBy;
use crate::tape::{Act, Tape};

/// y = factor x with `factor` [1] an input, a constant or anything else that has no gradient.
///
/// # Errors
/// A factor that is no scalar, or that a gradient would have to reach.
pub fn scale_by(tape: &mut Tape, x: Act, factor: Act) -> Result<Act> {
    tape.begin_op("scale_by");
    expect_elements("scale_by", "factor", tape.shape(factor), 1)?;
    if tape.requires_grad(factor) {
        let message = "scale_by: the factor depends on a parameter; detach it";
        return Err(Error::failed(message));
    }
    let n = tape.shape(x).elements();
    let y = tape.temp_like(x);
    let kernel = ScaleBy { n, factor: 1.0, accum: false };
    tape.launch(kernel, &[x.into(), factor.into(), y.into()])?;
    tape.record("scale_by", &[x.into()], y, move |t, dy| {
        let Some(dx) = t.target(x) else { return Ok(()) };
        let kernel = ScaleBy { n, factor: 1.0, accum: dx.accum };
        t.launch_into(dx, kernel, &[dy.into(), factor.into(), dx.value.into()])
    });
    Ok(y)
}
