//! The bound on the likelihood of held-out codes.

use super::DiffusionJob;
use super::batch::{MicroBatch, Purpose};
use crate::diffusion::{Corruption, stratified_times};
use crate::error::{Error, Result};
use crate::kernels::StepScalars;
use crate::plan::Store;
use crate::rng::{Rng, Stream};
use std::f64::consts::LN_2;

/// Times at which the bound is estimated for every held-out image.
const ELBO_TIMES: usize = 16;
/// The bound is estimated with the same draws every time.
const ELBO_SEED: u64 = 0xe1b0;

/// At most `most` of `all` places, evenly among them; 0: no limit.
pub(in crate::train) fn evenly(all: usize, most: usize) -> impl Iterator<Item = usize> {
    let count = if most == 0 { all } else { all.min(most) };
    (0..count).map(move |i| i * all / count)
}

impl DiffusionJob {
    /// Tokens of an image over its height x width x channels: what bits a token are multiplied by to be
    /// bits per dimension. That is the rate of the codes alone. What the decoder leaves of the image is
    /// not in it, so that it does not compare with the likelihoods of models of pixels.
    pub(super) fn tokens_per_dim(&self) -> f64 {
        self.grid.tokens() as f64 / self.data.images.image_len() as f64
    }

    /// Bits per token on the held-out codes: the bound of the process by stratified times, all alike
    /// however training draws or weighs them; the mean over images and its standard error. It costs
    /// `ELBO_TIMES` forward passes an image, of `diffusion.eval_images` images at most.
    pub(super) fn elbo(&self, store: &mut Store) -> Result<(f64, f64)> {
        let Some(plan) = &self.evaluation else {
            return Err(Error::failed("the evaluation plan was not compiled"));
        };
        let (micro, length) = (self.config.train.micro(), self.grid.tokens());
        let test = &self.data.split.test;
        // (image, time index) pairs, filled up with the last one.
        let images: Vec<usize> = evenly(test.len(), self.config.diffusion.eval_images).collect();
        let pairs: Vec<(usize, usize)> =
            (0..images.len()).flat_map(|place| (0..ELBO_TIMES).map(move |j| (place, j))).collect();
        // A step drawn from a chain stands for all of them; and the last one is not quite the prior.
        let (counts_for, prior) = match &self.corruption {
            Corruption::Masked(_) => (1.0, 0.0),
            Corruption::Chain(chain) => (chain.steps() as f64, chain.prior_divergence()),
        };
        let mut bits = vec![0.0f64; images.len()];
        let mut batch = MicroBatch::default();
        for (at, chunk) in pairs.chunks(micro).enumerate() {
            let pair = |i: usize| chunk[i.min(chunk.len() - 1)];
            batch.samples.rows.clear();
            batch.samples.rows.extend((0..micro).map(|i| test[images[pair(i).0]]));
            batch.samples.classes.clear();
            batch.samples.classes.extend(batch.samples.rows.iter().map(|&r| self.data.class_of(r)));
            batch.samples.times.clear();
            batch.samples.times.extend((0..micro).map(|i| {
                let (place, j) = pair(i);
                let u = Rng::new(ELBO_SEED, Stream::DiffusionTime, images[place] as u64).uniform();
                let mut t = [0.0];
                stratified_times(u, ELBO_TIMES, j, 0.0, &mut t);
                t[0].max(1e-9)
            }));
            let how = (&self.config.diffusion, &self.corruption, Purpose::Bound);
            batch.write(&self.codes, length, how, store, plan)?;
            if let Some(embeddings) = &self.embeddings {
                batch.samples.dropped.clear();
                batch.samples.dropped.resize(micro, 0.0);
                batch.write_context(embeddings, store, plan)?;
            }
            let step = StepScalars {
                seed_lo: ELBO_SEED as u32,
                sample_base: (at * micro) as u32,
                ..StepScalars::default()
            };
            plan.run_lane(store, 0, &step)?;
            let loss = store.read_f32(plan.output("loss")?)?;
            for (i, &(place, _)) in chunk.iter().enumerate() {
                let nats: f64 =
                    loss[i * length..(i + 1) * length].iter().map(|&l| f64::from(l)).sum();
                let share = counts_for / (length * ELBO_TIMES) as f64;
                bits[place] += (share * nats + prior / ELBO_TIMES as f64) / LN_2;
            }
        }
        let n = bits.len() as f64;
        let mean = bits.iter().sum::<f64>() / n;
        let variance = bits.iter().map(|b| (b - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        Ok((mean, (variance / n).sqrt()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_images_stand_for_all() {
        assert_eq!(evenly(5, 0).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(evenly(5, 9).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(evenly(10, 4).collect::<Vec<_>>(), [0, 2, 5, 7]);
        assert_eq!(evenly(0, 4).count(), 0);
    }
}
