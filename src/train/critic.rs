//! The discriminator beside an autoencoder: its own plan over its own parameters, run after every
//! lane on what the autoencoder just made.

use super::{optimiser, step_scalars};
use crate::config::{Config, RateSchedule, Train};
use crate::error::Result;
use crate::model::discriminator::{self, GROUP, MADE, REAL};
use crate::plan::{Options, ParamTable, Plan, RING_ROWS, Store};
use crate::tape::Tape;

/// Input [1] of the generator's step: 1 once the discriminator is heard, 0 before.
pub(super) const HEARD: &str = "adversarial_heard";

#[derive(Debug)]
pub(super) struct Critic {
    plan: Plan,
    /// Step from which it is trained and heard.
    start: u64,
    train: Train,
}

/// Records the discriminator's step, so that `table` knows its parameters.
pub(super) fn record(table: &mut ParamTable, config: &Config, dims: &[usize]) -> Result<Tape> {
    let mut tape = Tape::new();
    discriminator::record_step(&mut tape, table, &config.loss.adversarial, dims)?;
    Ok(tape)
}

impl Critic {
    pub fn compile(
        store: &mut Store,
        tape: &Tape,
        config: &Config,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self> {
        let settings = &config.loss.adversarial;
        let train = Train {
            lr: settings.lr,
            warmup: 0,
            schedule: RateSchedule::Constant,
            ema_decay: 0.0,
            ..config.train.clone()
        };
        let options = Options {
            optimiser: Some(optimiser(&train)),
            lanes: train.lanes,
            group: GROUP.into(),
            ..Options::default()
        };
        let plan = Plan::compile(store, tape, &options, progress)?;
        Ok(Critic { plan, start: settings.start, train })
    }

    /// Says whether the discriminator is heard in the step.
    pub fn announce(&self, store: &mut Store, generator: &Plan, step: u64) -> Result<()> {
        let heard = if step >= self.start { 1.0 } else { 0.0 };
        store.write_f32(generator.input(HEARD)?, &[heard])
    }

    /// Learns to tell the images of a lane, in [-1, 1], from what the generator made of them.
    pub fn learn(
        &self,
        store: &mut Store,
        generator: &Plan,
        real: &[f32],
        [step, lane]: [u64; 2],
    ) -> Result<()> {
        if step < self.start {
            return Ok(());
        }
        let made = store.read_f32(generator.output("image")?)?;
        store.write_f32(self.plan.input(REAL)?, real)?;
        store.write_f32(self.plan.input(MADE)?, &made)?;
        // Its own steps count from its own start, where its moments are empty.
        let scalars = step_scalars(&self.train, step - self.start, lane as usize, RING_ROWS);
        self.plan.run_lane(store, lane as usize, &scalars)
    }
}
