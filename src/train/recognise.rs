//! What a small classifier learns, and the loop in which it does: for the perceptual loss of a run, and
//! to judge samples.
//!
//! It learns to tell the classes of the training images or, where there are none, which way an image is
//! turned: as it is, backwards in time, upside down, or both. That is the pretext task of Gidaris et al.
//! 2018 (1803.07728) with the symmetries of a rectangle in place of those of a square.

use super::augment::augment;
use super::codes::fill_batch_with;
use super::{Material, step_scalars};
use crate::config::{Augment, RateSchedule, Train};
use crate::data::Dataset;
use crate::data::batches::BatchOrder;
use crate::error::Result;
use crate::model::classifier::{IMAGES, LOGITS, TARGET};
use crate::plan::{Plan, RING_ROWS, Store};
use crate::rng::{Rng, Stream};
use crate::tape::Precision;

/// Images of a step.
pub const BATCH: usize = 32;
/// Ways to turn a rectangle.
const TURNS: usize = 4;
/// The share of the steps, at their end, that the accuracy is of.
const JUDGED: f64 = 0.2;

/// What is told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    Classes(usize),
    Turns,
}

impl Task {
    /// The classes of the images if there are some to tell apart.
    pub fn of(images: &Dataset) -> Self {
        match images.classes() {
            0 | 1 => Task::Turns,
            n => Task::Classes(n),
        }
    }

    /// Answers there are.
    pub fn classes(self) -> usize {
        match self {
            Task::Classes(n) => n,
            Task::Turns => TURNS,
        }
    }

    pub fn describe(self) -> String {
        match self {
            Task::Classes(n) => format!("tell {n} classes"),
            Task::Turns => "tell which way an image is turned".into(),
        }
    }
}

/// The settings of the classifier's training, whatever else those of a run may be: AdamW in f32 with a
/// short warm-up and half a cosine.
pub fn settings(run: &Train, steps: u64) -> Train {
    Train {
        steps,
        batch: BATCH,
        lanes: 1,
        lr: 1e-3,
        warmup: steps / 20,
        schedule: RateSchedule::Cosine,
        ema_decay: 0.0,
        precision: Precision::F32,
        ..run.clone()
    }
}

/// Trains on the training images; the share of right answers among those of the last fifth of the
/// steps, before each was learned from.
///
/// `plan` is one of [`crate::model::classifier::record_step`] for batches of [`BATCH`].
pub fn learn(
    store: &mut Store,
    plan: &Plan,
    data: &Material,
    task: Task,
    train: &Train,
) -> Result<f64> {
    let images = &data.images;
    let mut order = BatchOrder::new(data.split.train.len(), BATCH, train.seed)?;
    let (mut rows, mut targets) = (vec![0; BATCH], vec![0; BATCH]);
    let mut pixels = vec![0.0; BATCH * images.image_len()];
    let judged = ((train.steps as f64 * JUDGED) as u64).max(1);
    let (mut right, mut asked) = (0, 0);
    for step in 0..train.steps {
        super::stop::check()?;
        order.indices(step, &mut rows);
        rows.iter_mut().for_each(|r| *r = data.split.train[*r as usize]);
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
        plan.run_lane(store, 0, &step_scalars(train, step, 0, RING_ROWS))?;
        if step + judged >= train.steps {
            let logits = store.read_f32(plan.output(LOGITS)?)?;
            let found = logits.chunks_exact(task.classes()).map(best);
            right += found.zip(&targets).filter(|(found, target)| found == *target).count();
            asked += BATCH;
        }
    }
    Ok(right as f64 / asked.max(1) as f64)
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
