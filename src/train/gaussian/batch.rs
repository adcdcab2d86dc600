//! A micro-batch of latents: what is recorded for it, and what it is fed to the device with.

use super::super::feeder::Samples;
use crate::config::Denoiser;
use crate::diffusion::gaussian::{alpha, min_snr_weight, sigma};
use crate::error::Result;
use crate::model::Scope;
use crate::model::denoiser::continuous::{LatentGrid, TIME_FEATURES, time_features, velocity};
use crate::ops;
use crate::plan::{Plan, Store};
use crate::tape::Act;

/// Names of inputs: standardised latents, what is left of them and how much noise is added, features of the
/// time, the class, and the root of the loss's weight; one row a sample each.
const LATENT: &str = "latent";
const ALPHA: &str = "alpha";
const SIGMA: &str = "sigma";
pub(super) const TIME: &str = "time";
pub(super) const CLASS: &str = "class";
pub(super) const ROOT_WEIGHT: &str = "root_weight";

/// A pass of the network over noisy latents, all [batch, length].
#[derive(Debug, Clone, Copy)]
pub(super) struct Pass {
    /// x_t = alpha x + sigma eps.
    pub noisy: Act,
    /// v = alpha eps - sigma x.
    pub velocity: Act,
    /// What the network takes it for.
    pub predicted: Act,
}

/// An input of one number a sample, spread over its `length` numbers: [batch, length].
pub(super) fn per_sample(
    s: &mut Scope<'_>,
    name: &str,
    batch: usize,
    length: usize,
) -> Result<Act> {
    let factor = s.tape.input(name, &[batch, 1])?;
    let sample = (0..batch * length).map(|i| (i / length) as u32).collect();
    let sample = s.tape.constant_idx(&[batch * length], sample)?;
    let spread = ops::lookup(s.tape, sample, factor)?;
    s.tape.reshape(spread, &[batch, length])
}

/// Records noise on latents and its prediction.
pub(super) fn record(
    s: &mut Scope<'_>,
    config: &Denoiser,
    grid: LatentGrid,
    batch: usize,
) -> Result<Pass> {
    let length = grid.length();
    let x = s.tape.input(LATENT, &[batch, length])?;
    let time = s.tape.input(TIME, &[batch, TIME_FEATURES])?;
    let class = s.tape.input_idx(CLASS, &[batch])?;
    let eps = ops::gaussian_noise(s.tape, &[batch, length])?;
    let alpha = per_sample(s, ALPHA, batch, length)?;
    let sigma = per_sample(s, SIGMA, batch, length)?;
    let (left, added) = (ops::mul(s.tape, alpha, x)?, ops::mul(s.tape, sigma, eps)?);
    let noisy = ops::add(s.tape, left, added)?;
    let (gained, lost) = (ops::mul(s.tape, alpha, eps)?, ops::mul(s.tape, sigma, x)?);
    let target = ops::sub(s.tape, gained, lost)?;
    let places = s.tape.reshape(noisy, &[batch, grid.places(), grid.channels])?;
    let predicted = velocity(s, config, grid, places, time, class)?;
    let predicted = s.tape.reshape(predicted, &[batch, length])?;
    Ok(Pass { noisy, velocity: target, predicted })
}

/// The inputs of a micro-batch on the host; the vectors are reused from step to step.
#[derive(Debug, Default)]
pub(super) struct MicroBatch {
    pub samples: Samples,
    /// One input after the other.
    words: Vec<f32>,
}

impl MicroBatch {
    /// Writes `rows`, `classes` and what follows from `times`; `latents` are those of every image, `length`
    /// an image.
    pub fn write(
        &mut self,
        latents: &[f32],
        length: usize,
        store: &mut Store,
        plan: &Plan,
    ) -> Result<()> {
        let of = |row: u32| &latents[row as usize * length..][..length];
        self.words.clear();
        self.samples.rows.iter().for_each(|&row| self.words.extend_from_slice(of(row)));
        store.write_f32(plan.input(LATENT)?, &self.words)?;
        self.words.clear();
        self.samples.times.iter().for_each(|&t| self.words.extend_from_slice(&time_features(t)));
        store.write_f32(plan.input(TIME)?, &self.words)?;
        self.write_each(ALPHA, alpha, store, plan)?;
        self.write_each(SIGMA, sigma, store, plan)?;
        store.write_u32(plan.input(CLASS)?, &self.samples.classes)
    }

    /// The roots of the weights of the loss, whose squared error is of weighted velocities.
    pub fn write_weights(&mut self, gamma: f64, store: &mut Store, plan: &Plan) -> Result<()> {
        self.write_each(ROOT_WEIGHT, |t| min_snr_weight(t, gamma).sqrt(), store, plan)
    }

    fn write_each(
        &mut self,
        name: &str,
        of: impl Fn(f64) -> f64,
        store: &mut Store,
        plan: &Plan,
    ) -> Result<()> {
        self.words.clear();
        self.words.extend(self.samples.times.iter().map(|&t| of(t) as f32));
        store.write_f32(plan.input(name)?, &self.words)
    }
}
