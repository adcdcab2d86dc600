//! Trains the features of the perceptual loss, before the first step of a run.

use super::autoencoder::AutoencoderJob;
use super::recognise::{self, BATCH, Task};
use super::{Console, Session, optimiser};
use crate::error::Result;
use crate::model::perceptual::{self, GROUP};
use crate::plan::{Options, ParamTable, Plan};
use crate::tape::Tape;

impl AutoencoderJob {
    /// Records the step of the features, so that `table` knows their parameters.
    pub(super) fn record_features(&self, table: &mut ParamTable) -> Result<Tape> {
        let mut tape = Tape::new();
        let images = &self.data.images;
        let classes = Task::of(images).classes();
        perceptual::record_step(&mut tape, table, &images.batch_dims(BATCH), classes)?;
        Ok(tape)
    }

    /// Trains the features and says how well they do their task.
    pub(super) fn learn_features(
        &self,
        session: &mut Session,
        console: &mut Console,
    ) -> Result<()> {
        let train = recognise::settings(&self.config.train, self.config.loss.perceptual.steps);
        let mut table = session.store.table().clone();
        let tape = self.record_features(&mut table)?;
        let options = Options {
            optimiser: Some(optimiser(&train)),
            group: GROUP.into(),
            ..Options::default()
        };
        let store = &mut session.store;
        let plan = Plan::compile(store, &tape, &options, &mut |_, _| {})?;
        let task = Task::of(&self.data.images);
        let share = recognise::learn(store, &plan, &self.data, task, &train)?;
        console.line(&format!(
            "perceptual features learned to {}: {:.0} % right, by chance {:.0} %",
            task.describe(),
            100.0 * share,
            100.0 / task.classes() as f64
        ));
        Ok(())
    }
}
