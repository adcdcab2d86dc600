//! What a denoiser is given, as vectors: tokens with their places, and the condition.

use super::{Grid, TIME};
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
    let length = grid.tokens();
    let batch = s.tape.shape(tokens).elements() / length;
    let token_table = table(&mut s, "emb", grid.codes + 1, width)?;
    let places = match placed {
        true => Some((
            table(&mut s, "height_emb", grid.rows, width)?,
            table(&mut s, "width_emb", grid.cols, width)?,
        )),
        false => None,
    };
    let x = ops::embedding(s.tape, tokens, token_table)?;
    let x = s.tape.reshape(x, &[batch, length, width])?;
    let Some((row_table, col_table)) = places else { return Ok(x) };
    let rows = (0..length).map(|i| (i / grid.cols) as u32).collect();
    let cols = (0..length).map(|i| (i % grid.cols) as u32).collect();
    let rows = s.tape.constant_idx(&[length], rows)?;
    let cols = s.tape.constant_idx(&[length], cols)?;
    let rows = ops::embedding(s.tape, rows, row_table)?;
    let cols = ops::embedding(s.tape, cols, col_table)?;
    let places = ops::add(s.tape, rows, cols)?;
    ops::add_repeated(s.tape, x, places)
}

/// class [batch] in 0..=classes -> [batch, width].
pub(super) fn class_vector(s: &mut Scope<'_>, grid: Grid, width: usize, class: Idx) -> Result<Act> {
    let classes = table(s, "class_emb", grid.classes + 1, width)?;
    ops::embedding(s.tape, class, classes)
}

/// The input [`TIME`] [batch].
pub(super) fn time_input(s: &mut Scope<'_>, batch: usize) -> Result<Idx> {
    s.tape.input_idx(TIME, &[batch])
}

/// What adaptive norms follow: the vectors of class and, where times are told apart, of time, added.
/// [batch, width].
pub(super) fn condition(
    s: &mut Scope<'_>,
    grid: Grid,
    width: usize,
    batch: usize,
    class: Idx,
) -> Result<Act> {
    let condition = class_vector(s, grid, width, class)?;
    if grid.times == 0 {
        return Ok(condition);
    }
    let times = table(s, "time_emb", grid.times, width)?;
    let time = time_input(s, batch)?;
    let time = ops::embedding(s.tape, time, times)?;
    ops::add(s.tape, condition, time)
}
