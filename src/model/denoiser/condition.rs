//! What a denoiser follows, as vectors: class, time and embedding.

use super::embed::table;
use super::{CONTEXT, DROPPED, Grid, Inputs, NULL_CONTEXT, TIME};
use crate::error::{Error, Result};
use crate::model::Scope;
use crate::model::layers::{Init, linear};
use crate::ops;
use crate::plan::ParamInit;
use crate::tape::{Act, Idx};

/// class [batch] in 0..=classes -> [batch, width].
pub(super) fn class_vector(s: &mut Scope<'_>, grid: Grid, width: usize, class: Idx) -> Result<Act> {
    let classes = table(s, "class_emb", grid.classes + 1, width)?;
    ops::embedding(s.tape, class, classes)
}

/// The time of every sample [batch]: the one given, else an input [`TIME`].
pub(super) fn time(s: &mut Scope<'_>, batch: usize, inputs: Inputs) -> Result<Idx> {
    match inputs.time {
        Some(time) => Ok(time),
        None => s.tape.input_idx(TIME, &[batch]),
    }
}

/// The inputs [`CONTEXT`] and [`DROPPED`] as [batch, context.tokens, context.width]; `None` where there is no
/// context.
///
/// What is dropped becomes the learnable null, `null_context` [1, tokens * width of an embedding]: as the
/// context is zero there, context + dropped null is the one or the other.
pub(super) fn given_or_null(s: &mut Scope<'_>, grid: Grid, batch: usize) -> Result<Option<Act>> {
    let Some(of) = grid.context else { return Ok(None) };
    let len = of.tokens * of.width;
    let given = s.tape.input(CONTEXT, &[batch, of.tokens, of.width])?;
    let dropped = s.tape.input(DROPPED, &[batch, 1])?;
    let null = s.param(NULL_CONTEXT, &[1, len], ParamInit::Normal(0.02), false)?;
    let null = ops::linear(s.tape, dropped, null, None)?;
    let null = s.tape.reshape(null, &[batch, of.tokens, of.width])?;
    ops::add(s.tape, given, null).map(Some)
}

/// [`given_or_null`], projected to [batch, context.tokens, width].
pub(super) fn context(
    s: &mut Scope<'_>,
    grid: Grid,
    width: usize,
    batch: usize,
) -> Result<Option<Act>> {
    let Some(context) = given_or_null(s, grid, batch)? else { return Ok(None) };
    linear(s.at("context"), context, width, Init::Transformer).map(Some)
}

/// What adaptive norms follow: the sum of the vectors of class, of time where times are told apart, and
/// `pooled` [batch, 1, width] if there is one. [batch, width].
pub(super) fn condition(
    s: &mut Scope<'_>,
    grid: Grid,
    width: usize,
    inputs: Inputs,
    pooled: Option<Act>,
) -> Result<Act> {
    let batch = s.tape.shape(inputs.class).elements();
    let mut condition = class_vector(s, grid, width, inputs.class)?;
    if grid.times > 0 {
        let times = table(s, "time_emb", grid.times, width)?;
        let time = time(s, batch, inputs)?;
        let time = ops::embedding(s.tape, time, times)?;
        condition = ops::add(s.tape, condition, time)?;
    }
    let Some(pooled) = pooled else { return Ok(condition) };
    if tokens_of(s, pooled) != 1 {
        return Err(Error::failed("a pooled context is one vector a sample"));
    }
    let pooled = s.tape.reshape(pooled, &[batch, width])?;
    ops::add(s.tape, condition, pooled)
}

/// The vector of the class, as a token in front of `context` [batch, tokens, width] if there is one:
/// [batch, 1 + tokens, width].
pub(super) fn class_and_context(
    s: &mut Scope<'_>,
    grid: Grid,
    width: usize,
    class: Idx,
    context: Option<Act>,
) -> Result<Act> {
    let batch = s.tape.shape(class).elements();
    let class = class_vector(s, grid, width, class)?;
    let Some(context) = context else { return s.tape.reshape(class, &[batch, 1, width]) };
    let tokens = tokens_of(s, context);
    let context = s.tape.reshape(context, &[batch, tokens * width])?;
    let all = (1 + tokens) * width;
    let first = ops::pad_columns(s.tape, class, 0, all)?;
    let rest = ops::pad_columns(s.tape, context, width, all)?;
    let both = ops::add(s.tape, first, rest)?;
    s.tape.reshape(both, &[batch, 1 + tokens, width])
}

/// Tokens of x [batch, tokens, width].
fn tokens_of(s: &Scope<'_>, x: Act) -> usize {
    let shape = s.tape.shape(x);
    shape.rows() / shape.dims()[0]
}
