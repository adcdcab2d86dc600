//! What a lane of a diffusion's step is trained on: images, their classes, times, and whose condition is
//! dropped. All are pure functions of the seed, the step and the place in the batch.

use super::Material;
use crate::config::Config;
use crate::data::batches::BatchOrder;
use crate::diffusion::stratified_times;
use crate::error::Result;
use crate::rng::{Rng, Stream};

/// The samples of a micro-batch; the vectors are reused from step to step.
#[derive(Debug, Default)]
pub(super) struct Samples {
    /// Images, as rows of the data set.
    pub rows: Vec<u32>,
    /// The null class, behind all others, where the condition is dropped.
    pub classes: Vec<u32>,
    pub times: Vec<f64>,
    /// 1 for samples without their condition, else 0.
    pub dropped: Vec<f32>,
}

/// Deals the training images out to lanes.
pub(super) struct Feeder {
    order: BatchOrder,
    /// Of the batch of `step`.
    rows: Vec<u32>,
    step: Option<u64>,
}

impl Feeder {
    /// # Errors
    /// No training images, an empty batch.
    pub fn new(data: &Material, config: &Config) -> Result<Self> {
        let (batch, seed) = (config.train.batch, config.train.seed);
        let order = BatchOrder::new(data.split.train.len(), batch, seed)?;
        Ok(Feeder { order, rows: vec![0; batch], step: None })
    }

    /// The samples of a lane, with times in [t_min, 1].
    pub fn deal(
        &mut self,
        data: &Material,
        config: &Config,
        (step, lane): (u64, usize),
        t_min: f64,
        out: &mut Samples,
    ) {
        if self.step != Some(step) {
            self.order.indices(step, &mut self.rows);
            self.rows.iter_mut().for_each(|r| *r = data.split.train[*r as usize]);
            self.step = Some(step);
        }
        let (batch, seed) = (config.train.batch, config.train.seed);
        let micro = config.train.micro();
        let first = lane * micro;
        out.rows.clear();
        out.rows.extend_from_slice(&self.rows[first..first + micro]);
        let u = Rng::new(seed, Stream::DiffusionTime, step).uniform();
        out.times.resize(micro, 0.0);
        stratified_times(u, batch, first, t_min, &mut out.times);
        out.dropped.clear();
        out.dropped.extend((first..first + micro).map(|i| {
            let sample = step * batch as u64 + i as u64;
            let u = Rng::new(seed, Stream::ClassDrop, sample).uniform();
            f32::from(u8::from(u < config.denoiser.class_drop))
        }));
        let null = data.images.classes() as u32;
        let samples = out.rows.iter().zip(&out.dropped);
        let class = |(&row, &dropped)| if dropped == 0.0 { data.class_of(row) } else { null };
        out.classes.clear();
        out.classes.extend(samples.map(class));
    }
}
