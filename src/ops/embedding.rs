//! Rows of a table by index.

use crate::error::Result;
use crate::kernels::code_sums::CodeSums;
use crate::kernels::copy::Copy;
use crate::kernels::gather::Gather;
use crate::tape::{Act, Idx, Param, Tape, ValueId};

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
    let n = tape.shape(idx).elements();
    let (rows, d) = (tape.shape(table).rows(), tape.shape(table).channels());
    tape.record("embedding", &[table.into()], y, move |t, dy| {
        let counts = t.temp(&[rows])?;
        let target = t.param_target(table);
        if !target.accum {
            let kernel = CodeSums { n, k: rows, d, accum: false };
            let binds = [idx.into(), dy.into(), counts.into(), target.value.into()];
            return t.launch_into(target, kernel, &binds);
        }
        // A second use of one table: its sums are added to the first's.
        let sums = t.temp(&[rows, d])?;
        let kernel = CodeSums { n, k: rows, d, accum: false };
        t.launch(kernel, &[idx.into(), dy.into(), counts.into(), sums.into()])?;
        let copy = Copy { n: rows * d, accum: true };
        t.launch_into(target, copy, &[sums.into(), target.value.into()])
    });
    Ok(y)
}

/// As [`embedding`], of a table that is computed: idx [n], table [rows, d] -> y [n, d].
pub fn select_rows(tape: &mut Tape, idx: Idx, table: Act) -> Result<Act> {
    let y = lookup(tape, idx, table)?;
    let n = tape.shape(idx).elements();
    let (rows, d) = (tape.shape(table).rows(), tape.shape(table).channels());
    tape.record("select_rows", &[table.into()], y, move |t, dy| {
        let Some(target) = t.target(table) else { return Ok(()) };
        let counts = t.temp(&[rows])?;
        let kernel = CodeSums { n, k: rows, d, accum: false };
        if !target.accum {
            let binds = [idx.into(), dy.into(), counts.into(), target.value.into()];
            return t.launch_into(target, kernel, &binds);
        }
        // The kernel would add to the counts too, which nobody has written.
        let sums = t.temp(&[rows, d])?;
        t.launch(kernel, &[idx.into(), dy.into(), counts.into(), sums.into()])?;
        let copy = Copy { n: rows * d, accum: true };
        t.launch_into(target, copy, &[sums.into(), target.value.into()])
    });
    Ok(y)
}
