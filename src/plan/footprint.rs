//! How much memory the temporaries of a step take, without a device.

use super::compile::lifetimes;
use super::flatten::flatten;
use super::fuse;
use super::halves::Halves;
use super::slots::assign;
use crate::error::Result;
use crate::tape::{Precision, Tape};

/// Bytes of the slots in a plan of `tape` for the CPU. A GPU's may differ a little, where fewer
/// launches are joined.
pub fn slot_bytes(tape: &Tape) -> Result<u64> {
    let (flat, _) = fuse::fuse(tape, flatten(tape), false)?;
    let halves = match tape.precision() {
        Precision::F32 => Halves::default(),
        Precision::Mixed => Halves::choose(tape, &flat),
    };
    let words = assign(&lifetimes(tape, &flat, &halves)?.0).1;
    Ok(words.iter().map(|&w| w as u64 * 4).sum())
}
