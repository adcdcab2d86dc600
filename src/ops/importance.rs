//! The importance sampling of a chain's steps: drawing them, and learning how large their losses are.

use super::{NOISE, expect_elements};
use crate::error::Result;
use crate::kernels::draw_steps::DrawSteps;
use crate::kernels::loss_history::LossHistory;
use crate::kernels::sample_losses::SampleLosses;
use crate::tape::{Act, Idx, Tape};

/// history and count [steps] and the words of every step [steps, 10] ([`super::Noise::words`]) -> for each of
/// `samples` a step and its words, whose factors of the loss are divided by the chance of that step.
/// Formula and source: [`crate::kernels::draw_steps`].
pub fn draw_steps(
    tape: &mut Tape,
    [history, count]: [Act; 2],
    table: Act,
    samples: usize,
) -> Result<(Idx, Act)> {
    const OP: &str = "draw_steps";
    tape.begin_op(OP);
    let steps = tape.shape(history).elements();
    expect_elements(OP, "count", tape.shape(count), steps)?;
    expect_elements(OP, "table", tape.shape(table), steps * NOISE)?;
    let (time, noise) = (tape.temp_idx(&[samples])?, tape.temp(&[samples, NOISE])?);
    let binds = [history.into(), count.into(), table.into(), time.into(), noise.into()];
    tape.launch(DrawSteps { samples, steps }, &binds)?;
    Ok((time, noise))
}

/// value [samples * length] of the tokens of a lane and the step of every sample -> [2, batch]: the loss of
/// each sample of the batch and its step, 0 where it is another lane's. To be summed over the lanes.
pub fn sample_losses(tape: &mut Tape, value: Act, time: Idx, batch: usize) -> Result<Act> {
    const OP: &str = "sample_losses";
    tape.begin_op(OP);
    let samples = tape.shape(time).elements();
    let length = tape.shape(value).elements() / samples;
    expect_elements(OP, "value", tape.shape(value), samples * length)?;
    let losses = tape.temp(&[2, batch])?;
    let kernel = SampleLosses { samples, length, batch };
    tape.launch(kernel, &[value.into(), time.into(), losses.into()])?;
    Ok(losses)
}

/// Moves the states `history` and `count` [steps] by the losses and steps [2, batch] of a whole batch, in
/// its order. Nothing moves when the step's gradient was not finite (`ctl`).
pub fn learn_losses(tape: &mut Tape, losses: Act, [history, count]: [Act; 2]) -> Result<()> {
    const OP: &str = "loss_history";
    tape.begin_op(OP);
    let (steps, batch) = (tape.shape(history).elements(), tape.shape(losses).channels());
    expect_elements(OP, "count", tape.shape(count), steps)?;
    let ctl = tape.state("ctl", &[4])?;
    let kernel = LossHistory { batch, steps };
    tape.launch(kernel, &[losses.into(), ctl.into(), history.into(), count.into()])
}
