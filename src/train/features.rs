//! Trains the features of the perceptual loss, before the first step of a run.
//!
//! They learn to tell the classes of the training images, or, where there are no classes, which way an
//! image is turned: as it is, backwards in time, upside down, or both. That is the pretext task of
//! Gidaris et al. 2018 (1803.07728) with the symmetries of a rectangle in place of those of a square.

use super::augment::augment;
use super::autoencoder::AutoencoderJob;
use super::codes::fill_batch_with;
use super::{Console, Session, optimiser, step_scalars};
use crate::config::{Augment, RateSchedule, Train};
use crate::data::batches::BatchOrder;
use crate::error::Result;
use crate::model::perceptual::{self, GROUP, IMAGES, LOGITS, TARGET};
use crate::plan::{Options, ParamTable, Plan, RING_ROWS};
use crate::rng::{Rng, Stream};
use crate::tape::{Precision, Tape};

const BATCH: usize = 32;
/// Ways to turn a rectangle.
const TURNS: usize = 4;
/// The share of the steps, at their end, that the accuracy is of.
const JUDGED: f64 = 0.2;

/// The task of the features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Classes(usize),
    Turns,
}

impl Task {
    fn classes(self) -> usize {
        match self {
            Task::Classes(n) => n,
            Task::Turns => TURNS,
        }
    }
}

impl AutoencoderJob {
    fn task(&self) -> Task {
        match self.data.images.classes() {
            0 | 1 => Task::Turns,
            n => Task::Classes(n),
        }
    }

    /// Records the step of the features, so that `table` knows their parameters.
    pub(super) fn record_features(&self, table: &mut ParamTable) -> Result<Tape> {
        let mut tape = Tape::new();
        let dims = self.data.images.batch_dims(BATCH);
        perceptual::record_step(&mut tape, table, &dims, self.task().classes())?;
        Ok(tape)
    }

    /// Trains the features and says how well they do their task.
    pub(super) fn learn_features(
        &self,
        session: &mut Session,
        console: &mut Console,
    ) -> Result<()> {
        let settings = &self.config.loss.perceptual;
        let train = Train {
            steps: settings.steps,
            batch: BATCH,
            lanes: 1,
            lr: 1e-3,
            warmup: settings.steps / 20,
            schedule: RateSchedule::Cosine,
            ema_decay: 0.0,
            precision: Precision::F32,
            ..self.config.train.clone()
        };
        let mut table = session.store.table().clone();
        let tape = self.record_features(&mut table)?;
        let options = Options {
            optimiser: Some(optimiser(&train)),
            group: GROUP.into(),
            ..Options::default()
        };
        let store = &mut session.store;
        let plan = Plan::compile(store, &tape, &options, &mut |_, _| {})?;
        let (images, task) = (&self.data.images, self.task());
        let mut order = BatchOrder::new(self.data.split.train.len(), BATCH, train.seed)?;
        let (mut rows, mut targets) = (vec![0; BATCH], vec![0; BATCH]);
        let mut pixels = vec![0.0; BATCH * images.image_len()];
        let judged = ((train.steps as f64 * JUDGED) as u64).max(1);
        let (mut right, mut asked) = (0, 0);
        for step in 0..train.steps {
            super::stop::check()?;
            order.indices(step, &mut rows);
            rows.iter_mut().for_each(|r| *r = self.data.split.train[*r as usize]);
            let mut rng = Rng::new(train.seed, Stream::Turn, step);
            for (target, &row) in targets.iter_mut().zip(&rows) {
                *target = match (task, &images.labels) {
                    (Task::Classes(_), Some(labels)) => labels[row as usize],
                    _ => rng.next_u32() % TURNS as u32,
                };
            }
            fill_batch_with(images, &rows, &mut pixels, |place, image| {
                if task == Task::Turns {
                    turn(image, images.image_shape(), targets[place]);
                }
            });
            store.write_f32(plan.input(IMAGES)?, &pixels)?;
            store.write_u32(plan.input(TARGET)?, &targets)?;
            plan.run_lane(store, 0, &step_scalars(&train, step, 0, RING_ROWS))?;
            if step + judged >= train.steps {
                let logits = store.read_f32(plan.output(LOGITS)?)?;
                let found = logits.chunks_exact(task.classes()).map(best);
                right += found.zip(&targets).filter(|(found, target)| found == *target).count();
                asked += BATCH;
            }
        }
        let what = match task {
            Task::Classes(n) => format!("tell {n} classes"),
            Task::Turns => "tell which way an image is turned".into(),
        };
        let (share, chance) = (right as f64 / asked as f64, 1.0 / task.classes() as f64);
        console.line(&format!(
            "perceptual features learned to {what}: {:.0} % right, by chance {:.0} %",
            100.0 * share,
            100.0 * chance
        ));
        Ok(())
    }
}

/// The place of the highest of a row of logits.
pub(super) fn best(row: &[f32]) -> u32 {
    let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(0, |(i, _)| i as u32)
}

/// Bit 0 of `way` turns time round, bit 1 Doppler.
fn turn(image: &mut [f32], shape: [usize; 3], way: u32) {
    let certain = |bit: u32| f64::from(way >> bit & 1);
    let settings =
        Augment { flip_time: certain(0), flip_doppler: certain(1), ..Augment::default() };
    augment(&settings, image, shape, &mut Rng::new(0, Stream::Turn, 0));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns() {
        let turned = |way| {
            let mut image = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6];
            turn(&mut image, [2, 3, 1], way);
            image
        };
        assert_eq!(turned(0), [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]);
        assert_eq!(turned(1), [0.3, 0.2, 0.1, 0.6, 0.5, 0.4]);
        assert_eq!(turned(2), [0.4, 0.5, 0.6, 0.1, 0.2, 0.3]);
        assert_eq!(turned(3), [0.6, 0.5, 0.4, 0.3, 0.2, 0.1]);
    }

    #[test]
    fn the_highest_wins() {
        assert_eq!(best(&[0.5, 3.0, -1.0]), 1);
        assert_eq!(best(&[]), 0);
    }
}
