//! Steps drawn on the device by the size of their losses, so that steps of training stay in flight.
//!
//! Two states beside the weights: the running mean square of every step's losses, and how often each was
//! drawn. All lanes draw by what the steps of training before have left, and after the last lane the whole
//! batch is learned from in its order. Draws depend on the seed, the number of the sample and the states,
//! not on how the batch is cut into lanes.

use super::batch::words;
use crate::config::Diffusion;
use crate::diffusion::Chain;
use crate::error::Result;
use crate::ops::{self, NOISE};
use crate::tape::{Act, Idx, Tape};

/// Running mean square of the losses of every step, in nats squared a sample.
const HISTORY: &str = "step_losses";
/// Samples drawn of every step.
const COUNT: &str = "step_draws";

/// Steps drawn for the samples of a lane, and what the loss must know of them.
#[derive(Debug)]
pub(super) struct Drawn {
    pub time: Idx,
    pub noise: Act,
    states: [Act; 2],
}

impl Drawn {
    pub fn record(
        tape: &mut Tape,
        settings: &Diffusion,
        chain: &Chain,
        samples: usize,
    ) -> Result<Self> {
        let steps = chain.steps();
        let table = (0..steps).flat_map(|t| words(settings, chain, t, 1.0)).collect();
        let table = tape.constant(&[steps, NOISE], table)?;
        let states = [tape.state(HISTORY, &[steps])?, tape.state(COUNT, &[steps])?];
        let (time, noise) = ops::draw_steps(tape, states, table, samples)?;
        Ok(Drawn { time, noise, states })
    }

    /// Learns from the value [samples * length] of the tokens of every lane, of `batch` samples in all. Call
    /// [`Tape::backward`] before: the end of this runs once per step.
    pub fn learn(self, tape: &mut Tape, value: Act, batch: usize) -> Result<()> {
        let losses = ops::sample_losses(tape, value, self.time, batch)?;
        tape.report("sample_losses", losses)?;
        tape.begin_update();
        ops::learn_losses(tape, losses, self.states)
    }
}
