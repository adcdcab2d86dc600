//! The rotation trick (Fifty et al. 2024, arXiv 2410.06424).

use super::expect_elements;
use crate::error::Result;
use crate::kernels::rotation_trick::RotationTrick;
use crate::tape::{Act, Tape};

/// Value of `code`, gradient to `z` alone: code = lambda R z with lambda = |code| / |z| and R the
/// rotation from the direction of z to that of the code, both taken as constants, so that the
/// gradient of z is lambda R' g. It passes straight through (g itself) where z or the code is shorter
/// than 1e-3, or they point in opposite directions. z and code [.., d].
pub fn rotate(tape: &mut Tape, z: Act, code: Act) -> Result<Act> {
    tape.begin_op("rotate");
    let (shape, n) = (tape.shape(z), tape.shape(z).elements());
    expect_elements("rotate", "code", tape.shape(code), n)?;
    let (rows, d) = (shape.rows(), shape.channels());
    let y = tape.alias(code.into(), shape);
    tape.record("rotate", &[z.into()], y, move |t, dy| {
        let Some(dz) = t.target(z) else { return Ok(()) };
        let kernel = RotationTrick { rows, d, accum: dz.accum };
        t.launch_into(dz, kernel, &[z.into(), code.into(), dy.into(), dz.value.into()])
    });
    Ok(y)
}
