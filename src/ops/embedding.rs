//! Rows of a table by index.

use crate::error::Result;
use crate::kernels::code_sums::CodeSums;
use crate::kernels::copy::Copy;
use crate::kernels::gather::Gather;
use crate::tape::{Act, Idx, Param, Tape, Target, ValueId};

/// idx [n], table [rows, d] -> y [n, d], without a gradient.
pub fn lookup(tape: &mut Tape, idx: Idx, table: impl Into<ValueId>) -> Result<Act> {
    tape.begin_op("lookup");
    let table = table.into();
    let n = tape.shape(idx).elements();
    let (rows, d) = (tape.shape(table).rows(), tape.shape(table).channels());
    let y = tape.temp(&[n, d])?;
    tape.launch(Gather { n, rows, d }, &[idx.into(), table, y.into()])?;
    Ok(y)
}

/// idx [n], table [rows, d] -> y [n, d]. The gradient of the table sums the rows of dy by index, in
/// order of position: exact and repeatable.
pub fn embedding(tape: &mut Tape, idx: Idx, table: Param) -> Result<Act> {
    let y = lookup(tape, idx, table)?;
    tape.record("embedding", &[table.into()], y, move |t, dy| match t.param_target(table) {
        Some(target) => sum_rows(t, idx, dy, target),
        None => Ok(()),
    });
    Ok(y)
}

/// As [`embedding`], of a table that is computed: idx [n], table [rows, d] -> y [n, d].
pub fn select_rows(tape: &mut Tape, idx: Idx, table: Act) -> Result<Act> {
    let y = lookup(tape, idx, table)?;
    tape.record("select_rows", &[table.into()], y, move |t, dy| match t.target(table) {
        Some(target) => sum_rows(t, idx, dy, target),
        None => Ok(()),
    });
    Ok(y)
}

/// The gradient of a table: the rows of dy by index.
fn sum_rows(t: &mut Tape, idx: Idx, dy: Act, target: Target) -> Result<()> {
    let (n, table) = (t.shape(idx).elements(), t.shape(target.value));
    let (k, d) = (table.rows(), table.channels());
    let counts = t.temp(&[k])?;
    let kernel = CodeSums { n, k, d, accum: false };
    if !target.accum {
        let binds = [idx.into(), dy.into(), counts.into(), target.value.into()];
        return t.launch_into(target, kernel, &binds);
    }
    // A second use of one table: its sums are added to the first's.
    let sums = t.temp(&[k, d])?;
    t.launch(kernel, &[idx.into(), dy.into(), counts.into(), sums.into()])?;
    let copy = Copy { n: k * d, accum: true };
    t.launch_into(target, copy, &[sums.into(), target.value.into()])
}
