//! Finite scalar quantisation.

use crate::error::{Error, Result};
use crate::kernels::fsq::{Fsq, FsqCodes, LEVELS, channel_table};
use crate::tape::{Act, Idx, Tape};

/// # Errors
/// No channel, too few or too many levels in one, or more codes than u32 can count.
fn check(levels: &[usize]) -> Result<()> {
    let bad = |why: String| {
        Error::usage(format!("levels {levels:?} are not possible"))
            .at("finite scalar quantisation")
            .why(why)
            .help("published lists: [8, 6, 5], [8, 5, 5, 5], [7, 5, 5, 5, 5], [8, 8, 8, 6, 5]")
    };
    let (least, most) = (LEVELS.start(), LEVELS.end());
    if levels.is_empty() || levels.iter().any(|l| !LEVELS.contains(l)) {
        return Err(bad(format!("at least one channel, each of {least} to {most} levels")));
    }
    let codes = levels.iter().try_fold(1u32, |n, &l| n.checked_mul(l as u32));
    codes.map(|_| ()).ok_or_else(|| bad("their product must be below 2^32".into()))
}

/// z [.., d], d = levels.len() -> its code y [.., d] in [-1, 1], and the code's index of every row, in
/// 0 .. product of the levels (2309.15505): each channel is bounded by a tanh and rounded, half to
/// even, to one of its levels; the digit of channel 0 is the lowest. Two levels are the sign of z.
/// The gradient is that of the bounding function, straight through the rounding.
///
/// # Errors
/// z has another number of channels, or the levels are not possible.
pub fn fsq(tape: &mut Tape, z: Act, levels: &[usize]) -> Result<(Act, Idx)> {
    tape.begin_op("fsq");
    check(levels)?;
    let (rows, d) = (tape.shape(z).rows(), levels.len());
    if tape.shape(z).channels() != d {
        return Err(Error::failed(format!("fsq: z is {}, wants {d} channels", tape.shape(z))));
    }
    let channels = tape.constant(&[d, 4], channel_table(levels))?;
    let (y, idx) = (tape.temp_like(z), tape.temp_idx(&[rows])?);
    let kernel = Fsq { rows, levels: levels.to_vec(), backward: false, accum: false };
    tape.launch(kernel.clone(), &[z.into(), channels.into(), y.into(), idx.into()])?;
    tape.record("fsq", &[z.into()], y, move |t, dy| {
        let Some(dz) = t.target(z) else { return Ok(()) };
        let kernel = Fsq { backward: true, accum: dz.accum, ..kernel };
        t.launch_into(dz, kernel, &[z.into(), channels.into(), dy.into(), dz.value.into()])
    });
    Ok((y, idx))
}

/// Indices of any shape -> their codes [n, d], as [`fsq`] gives them; no gradient. An index beyond the
/// product of the levels counts modulo it.
///
/// # Errors
/// The levels are not possible.
pub fn fsq_codes(tape: &mut Tape, idx: Idx, levels: &[usize]) -> Result<Act> {
    tape.begin_op("fsq_codes");
    check(levels)?;
    let (rows, d) = (tape.shape(idx).elements(), levels.len());
    let channels = tape.constant(&[d, 4], channel_table(levels))?;
    let y = tape.temp(&[rows, d])?;
    let kernel = FsqCodes { rows, levels: levels.to_vec() };
    tape.launch(kernel, &[idx.into(), channels.into(), y.into()])?;
    Ok(y)
}
