//! Samplers of continuous latents. The network runs on the device and returns a velocity for every number;
//! the step back is a sum of three terms and is taken here, so that the state travels to the device and
//! the velocity back in every step: 8 bytes a number, beside a pass through the network.

use super::Step;
use crate::error::{Error, Result};
use crate::rng::{Rng, Stream};

/// What a sampler needs of a network.
pub trait VelocityModel {
    /// The velocity of every number of `x` at `time`, in a round of the run.
    fn velocity(&mut self, x: &[f32], round: usize, time: f64) -> Result<Vec<f32>>;
}

/// A sampling run.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Network evaluations, at equal distances in time.
    pub steps: usize,
    /// 0: DDIM, 1: ancestral; see [`Step::between`].
    pub eta: f64,
    pub samples: usize,
    /// Numbers of a sample.
    pub length: usize,
    pub seed: u64,
    /// Global index of the first sample, so that a large run can be made in parts.
    pub first: u64,
}

impl Run {
    /// From noise to latents, [samples, length].
    ///
    /// # Errors
    /// No steps; an eta outside of [0, 1]; a network that returns another number of velocities, or one that
    /// is not finite.
    pub fn sample(&self, model: &mut dyn VelocityModel) -> Result<Vec<f32>> {
        if self.steps == 0 {
            return Err(
                Error::usage("a sampler needs at least one step").help("use --steps 1 or more")
            );
        }
        if !(0.0..=1.0).contains(&self.eta) {
            return Err(Error::usage("nothing can be sampled so")
                .at(format!("--eta {}", self.eta))
                .help("use 0 for no noise, 1 for the ancestral sampler, or a number between"));
        }
        let mut x = vec![0.0; self.samples * self.length];
        self.add_noise(0, 1.0, &mut x);
        for round in 0..self.steps {
            let [t, s] = [self.time(round), self.time(round + 1)];
            let v = model.velocity(&x, round, t)?;
            if v.len() != x.len() {
                return Err(Error::failed("the network returned another number of velocities"));
            }
            if v.iter().any(|v| !v.is_finite()) {
                return Err(Error::diverged(format!("a velocity at time {t:.3} is not finite"))
                    .help("sample from an earlier checkpoint, or with a lower --guidance"));
            }
            let step = Step::between(s, t, self.eta);
            for (x, v) in x.iter_mut().zip(v) {
                *x = (step.state * f64::from(*x) + step.velocity * f64::from(v)) as f32;
            }
            if step.noise > 0.0 {
                self.add_noise(round + 1, step.noise, &mut x);
            }
        }
        Ok(x)
    }

    /// From 1 to 0.
    fn time(&self, round: usize) -> f64 {
        1.0 - round as f64 / self.steps as f64
    }

    /// Adds `scale` times standard normal numbers: a stream of its own for every sample and round, so that
    /// a sample does not depend on the batch that it is made in. 2^20 rounds are room enough.
    fn add_noise(&self, round: usize, scale: f64, x: &mut [f32]) {
        for (sample, x) in x.chunks_exact_mut(self.length.max(1)).enumerate() {
            let index = (self.first + sample as u64) << 20 | round as u64;
            let mut rng = Rng::new(self.seed, Stream::LatentNoise, index);
            x.iter_mut().for_each(|x| *x = (f64::from(*x) + scale * rng.normal()) as f32);
        }
    }
}
