//! Slices of the last dimension, and their transpose.

use crate::error::{Error, Result};
use crate::kernels::columns::Columns;
use crate::shape::Shape;
use crate::tape::{Act, Tape};

/// x [.., d] -> its columns from..from + len, [.., len]. The gradient is padded with zeros.
///
/// # Errors
/// No columns, or some that x does not have.
pub fn slice_columns(tape: &mut Tape, x: Act, from: usize, len: usize) -> Result<Act> {
    let wide = tape.shape(x).channels();
    emit(tape, "slice_columns", x, [wide, len, from], false)
}

/// x [.., d] -> y [.., width] with x in the columns from..from + d and zeros in the others. The
/// gradient is those columns of the incoming one.
///
/// # Errors
/// Columns that y does not have.
pub fn pad_columns(tape: &mut Tape, x: Act, from: usize, width: usize) -> Result<Act> {
    let narrow = tape.shape(x).channels();
    emit(tape, "pad_columns", x, [width, narrow, from], true)
}

fn emit(
    tape: &mut Tape,
    op: &'static str,
    x: Act,
    [wide, narrow, at]: [usize; 3],
    pad: bool,
) -> Result<Act> {
    tape.begin_op(op);
    let shape = tape.shape(x);
    if narrow == 0 || at.checked_add(narrow).is_none_or(|end| end > wide) {
        return Err(Error::failed(format!(
            "{op}: {shape}: columns {at}..{at} + {narrow} are not columns of {wide}"
        )));
    }
    let y = tape.temp(with_channels(shape, if pad { wide } else { narrow }).as_slice())?;
    let kernel = Columns { rows: shape.rows(), wide, narrow, at, pad, accum: false };
    tape.launch(kernel.clone(), &[x.into(), y.into()])?;
    tape.record(op, &[x.into()], y, move |t, dy| {
        let Some(dx) = t.target(x) else { return Ok(()) };
        let kernel = Columns { pad: !pad, accum: dx.accum, ..kernel };
        t.launch_into(dx, kernel, &[dy.into(), dx.value.into()])
    });
    Ok(y)
}

/// The shape with another last dimension.
fn with_channels(shape: Shape, channels: usize) -> Vec<usize> {
    let mut dims = shape.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = channels;
    }
    dims
}
