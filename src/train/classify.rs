//! The small classifier that judges samples: what class it takes an image for, and the features it
//! compares images by.

use super::recognise::{self, BATCH, Task, best};
use super::{Material, optimiser};
use crate::config::Train;
use crate::data::Dataset;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::metrics::generation::Matrix;
use crate::model::Scope;
use crate::model::classifier::{self, CHANNELS, FEATURES, IMAGES, LEAST_SIDE, LEVELS, LOGITS};
use crate::plan::{Options, ParamTable, Plan, Store};
use crate::tape::Tape;

/// A trained classifier.
#[derive(Debug)]
pub struct Classifier {
    store: Store,
    plan: Plan,
    task: Task,
    shape: [usize; 3],
    /// Share of right answers in the last fifth of its training, before it learned from them.
    pub accuracy_in_training: f64,
}

/// What a classifier makes of images.
#[derive(Debug, Clone, PartialEq)]
pub struct Recognised {
    /// The class of each image.
    pub classes: Vec<u32>,
    /// A row for each image: the mean over places of the activations of the last level.
    ///
    /// That level alone: with the level before beside it the kernel distance told blurred, noisy,
    /// shifted and repeated spectrograms from real ones no better (0.7 to 1.0 times as many standard
    /// deviations of the distance of real ones), and a Frechet distance needs more images than
    /// dimensions.
    pub features: Matrix,
}

impl Classifier {
    /// Whether the network can see images of this size.
    ///
    /// # Errors
    /// Images with a side below 8.
    pub fn fits(images: &Dataset) -> Result<()> {
        if images.height.min(images.width) < LEAST_SIDE {
            return Err(Error::data("the images are too small to be told apart")
                .at(&images.source)
                .why(format!(
                    "{} x {}: the classifier halves them three times",
                    images.height, images.width
                ))
                .help(format!("use images with sides of at least {LEAST_SIDE}")));
        }
        Ok(())
    }

    /// `steps` of AdamW on batches of 32 training images; the task is [`Task::of`] them.
    ///
    /// # Errors
    /// Images that do not [`fit`](Self::fits).
    pub fn train(device: Box<dyn Device>, data: &Material, steps: u64, seed: u64) -> Result<Self> {
        let images = &data.images;
        Self::fits(images)?;
        let task = Task::of(images);
        let settings = recognise::settings(&Train { seed, ..Train::default() }, steps);
        let dims = images.batch_dims(BATCH);
        let (mut tape, mut table) = (Tape::new(), ParamTable::default());
        classifier::record_step(&mut Scope::new(&mut tape, &mut table), &dims, task.classes())?;
        let mut store = Store::new(device, table.clone(), seed)?;
        let options = Options { optimiser: Some(optimiser(&settings)), ..Options::default() };
        let training = Plan::compile(&mut store, &tape, &options, &mut |_, _| {})?;

        let mut tape = Tape::new();
        classifier::record_recognition(
            &mut Scope::new(&mut tape, &mut table),
            &dims,
            task.classes(),
        )?;
        let plan = Plan::compile(&mut store, &tape, &Options::default(), &mut |_, _| {})?;
        let accuracy_in_training = recognise::learn(&mut store, &training, data, task, &settings)?;
        Ok(Classifier { store, plan, task, shape: images.image_shape(), accuracy_in_training })
    }

    pub fn task(&self) -> Task {
        self.task
    }

    /// The images `rows` of a set.
    ///
    /// # Errors
    /// Images of another shape than those of the training.
    pub fn recognise(&mut self, images: &Dataset, rows: &[u32]) -> Result<Recognised> {
        if images.image_shape() != self.shape {
            return Err(Error::data("the images differ in shape from those of the training")
                .at(&images.source)
                .why(format!("{:?}, not {:?}", images.image_shape(), self.shape)));
        }
        let mut found = Recognised { classes: vec![], features: Matrix::default() };
        let mut pixels = vec![0.0; BATCH * images.image_len()];
        for chunk in rows.chunks(BATCH) {
            super::stop::check()?;
            super::codes::fill_batch(images, chunk, &mut pixels);
            self.batch(&pixels, chunk.len(), &mut found)?;
        }
        Ok(found)
    }

    /// Appends what the first `n` images of a full batch are taken for.
    fn batch(&mut self, pixels: &[f32], n: usize, found: &mut Recognised) -> Result<()> {
        self.store.write_f32(self.plan.input(IMAGES)?, pixels)?;
        self.plan.run_lane(&mut self.store, 0, &Default::default())?;
        let logits = self.store.read_f32(self.plan.output(LOGITS)?)?;
        found.classes.extend(logits.chunks_exact(self.task.classes()).take(n).map(best));
        let last = self.store.read_f32(self.plan.output(FEATURES)?)?;
        for image in last.chunks_exact(last.len() / BATCH).take(n) {
            found.features.push(&means(image, CHANNELS[LEVELS - 1]));
        }
        Ok(())
    }

    /// Share of the images `rows` of a labelled set whose class is recognised; 0 of none.
    pub fn accuracy(&mut self, images: &Dataset, rows: &[u32]) -> Result<f64> {
        let found = self.recognise(images, rows)?.classes;
        Ok(right(&found, images, rows))
    }
}

/// Share of the classes that are those of the images `rows`.
pub fn right(found: &[u32], images: &Dataset, rows: &[u32]) -> f64 {
    let Some(labels) = &images.labels else { return 0.0 };
    let right = found.iter().zip(rows).filter(|(class, row)| **class == labels[**row as usize]);
    right.count() as f64 / rows.len().max(1) as f64
}

/// The mean over places of [places, channels], in f64 and in order.
fn means(image: &[f32], channels: usize) -> Vec<f64> {
    let mut sums = vec![0.0; channels];
    for place in image.chunks_exact(channels) {
        sums.iter_mut().zip(place).for_each(|(sum, v)| *sum += f64::from(*v));
    }
    let places = (image.len() / channels.max(1)).max(1) as f64;
    sums.iter_mut().for_each(|sum| *sum /= places);
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_over_places() {
        assert_eq!(means(&[1.0, 10.0, 2.0, 20.0, 6.0, 60.0], 2), [3.0, 30.0]);
    }
}
