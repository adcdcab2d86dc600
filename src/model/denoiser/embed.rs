//! Tokens and their places, as vectors.

use super::Grid;
use crate::error::Result;
use crate::model::Scope;
use crate::ops;
use crate::plan::ParamInit;
use crate::tape::{Act, Idx, Param};

/// A table of embeddings, `NAME.weight` [rows, width].
pub(super) fn table(s: &mut Scope<'_>, name: &str, rows: usize, width: usize) -> Result<Param> {
    s.param(&format!("{name}.weight"), &[rows, width], ParamInit::Normal(0.02), false)
}

/// tokens [batch * rows * cols] in 0..=K -> their embeddings [batch, rows * cols, width], to which those
/// of row and column are added if `placed`.
pub(super) fn embed(
    mut s: Scope<'_>,
    grid: Grid,
    width: usize,
    tokens: Idx,
    placed: bool,
) -> Result<Act> {
    let batch = s.tape.shape(tokens).elements() / grid.tokens();
    let token_table = table(&mut s, "emb", grid.codes + 1, width)?;
    let x = ops::embedding(s.tape, tokens, token_table)?;
    let x = s.tape.reshape(x, &[batch, grid.tokens(), width])?;
    if placed { place(s, [grid.rows, grid.cols], x) } else { Ok(x) }
}

/// x [batch, rows * cols, width] + the embeddings of row and column.
pub(super) fn place(mut s: Scope<'_>, [rows, cols]: [usize; 2], x: Act) -> Result<Act> {
    let (width, length) = (s.tape.shape(x).channels(), rows * cols);
    let row_table = table(&mut s, "height_emb", rows, width)?;
    let col_table = table(&mut s, "width_emb", cols, width)?;
    let rows = (0..length).map(|i| (i / cols) as u32).collect();
    let cols = (0..length).map(|i| (i % cols) as u32).collect();
    let rows = s.tape.constant_idx(&[length], rows)?;
    let cols = s.tape.constant_idx(&[length], cols)?;
    let rows = ops::embedding(s.tape, rows, row_table)?;
    let cols = ops::embedding(s.tape, cols, col_table)?;
    let places = ops::add(s.tape, rows, cols)?;
    ops::add_repeated(s.tape, x, places)
}
