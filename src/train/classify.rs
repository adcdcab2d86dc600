//! Trains the small classifier that scores class-conditional samples.

use super::codes::fill_batch;
use super::features::best;
use super::{Material, optimiser, step_scalars};
use crate::config::Train;
use crate::data::batches::BatchOrder;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::model::{Scope, classifier};
use crate::ops;
use crate::plan::{Options, ParamTable, Plan, RING_ROWS, Store};
use crate::tape::Tape;

const BATCH: usize = 32;

/// A trained classifier.
#[derive(Debug)]
pub struct Classifier {
    store: Store,
    plan: Plan,
    classes: usize,
    image_len: usize,
}

impl Classifier {
    /// `steps` of AdamW on batches of 32 training images.
    ///
    /// # Errors
    /// Images without labels, or whose sides 8 does not divide.
    pub fn train(device: Box<dyn Device>, data: &Material, steps: u64, seed: u64) -> Result<Self> {
        let images = &data.images;
        let Some(labels) = &images.labels else {
            return Err(Error::data("the images have no labels to recognise").at(&images.source));
        };
        if !images.height.is_multiple_of(8) || !images.width.is_multiple_of(8) {
            return Err(Error::data("the classifier wants sides divisible by 8").at(&images.source));
        }
        let classes = images.classes();
        let settings = Train {
            seed,
            steps,
            batch: BATCH,
            lr: 1e-3,
            warmup: 20,
            ema_decay: 0.0,
            ..Train::default()
        };
        let dims = images.batch_dims(BATCH);

        let (mut tape, mut table) = (Tape::new(), ParamTable::default());
        let mut s = Scope::new(&mut tape, &mut table);
        let x = s.tape.input("x", &dims)?;
        let target = s.tape.input_idx("target", &[BATCH])?;
        let weight = s.tape.constant(&[BATCH], vec![1.0; BATCH])?;
        let logits = classifier::logits(&mut s, x, classes)?;
        let (loss, _) = ops::cross_entropy(&mut tape, logits, target, weight, 1.0 / BATCH as f32)?;
        tape.report("loss", loss)?;
        tape.backward(&[(loss, 1.0)])?;
        let mut store = Store::new(device, table.clone(), seed)?;
        let options = Options { optimiser: Some(optimiser(&settings)), ..Options::default() };
        let training = Plan::compile(&mut store, &tape, &options, &mut |_, _| {})?;

        let mut tape = Tape::new();
        let mut s = Scope::new(&mut tape, &mut table);
        let x = s.tape.input("x", &dims)?;
        let logits = classifier::logits(&mut s, x, classes)?;
        tape.output("logits", logits)?;
        let plan = Plan::compile(&mut store, &tape, &Options::default(), &mut |_, _| {})?;

        let mut order = BatchOrder::new(data.split.train.len(), BATCH, seed)?;
        let mut rows = vec![0; BATCH];
        let mut pixels = vec![0.0; BATCH * images.image_len()];
        for step in 0..steps {
            super::stop::check()?;
            order.indices(step, &mut rows);
            rows.iter_mut().for_each(|r| *r = data.split.train[*r as usize]);
            fill_batch(images, &rows, &mut pixels);
            let targets: Vec<u32> = rows.iter().map(|&r| labels[r as usize]).collect();
            store.write_f32(training.input("x")?, &pixels)?;
            store.write_u32(training.input("target")?, &targets)?;
            training.run_lane(&mut store, 0, &step_scalars(&settings, step, 0, RING_ROWS))?;
        }
        Ok(Classifier { store, plan, classes, image_len: images.image_len() })
    }

    /// The class of each image; pixels in [0, 1], NHWC.
    pub fn classify(&mut self, images: &[f32]) -> Result<Vec<u32>> {
        let mut found = vec![];
        let mut pixels = vec![0.0; BATCH * self.image_len];
        for chunk in images.chunks(BATCH * self.image_len) {
            for (to, from) in pixels.iter_mut().zip(chunk) {
                *to = from * 2.0 - 1.0;
            }
            self.store.write_f32(self.plan.input("x")?, &pixels)?;
            self.plan.run_lane(&mut self.store, 0, &Default::default())?;
            let logits = self.store.read_f32(self.plan.output("logits")?)?;
            let rows = logits.chunks_exact(self.classes).take(chunk.len() / self.image_len);
            found.extend(rows.map(best));
        }
        Ok(found)
    }

    /// Share of `images` that are recognised as `labels`.
    pub fn accuracy(&mut self, images: &[f32], labels: &[u32]) -> Result<f64> {
        let found = self.classify(images)?;
        let right = found.iter().zip(labels).filter(|(a, b)| a == b).count();
        Ok(right as f64 / labels.len().max(1) as f64)
    }
}
