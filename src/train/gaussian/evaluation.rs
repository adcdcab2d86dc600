//! What the network makes of held-out latents.

use super::GaussianJob;
use super::batch::{self, MicroBatch};
use super::generate::Decoder;
use crate::config::Bottleneck;
use crate::diffusion::gaussian::{alpha, sigma};
use crate::diffusion::stratified_times;
use crate::error::{Error, Result};
use crate::kernels::StepScalars;
use crate::model::Scope;
use crate::ops;
use crate::plan::{ParamTable, Store};
use crate::rng::{Rng, Stream};
use crate::tape::Tape;
use crate::train::diffusion::evenly;
use crate::train::session::Numbers;

/// Times at which the loss is taken for every held-out image.
const TIMES: usize = 8;
/// Times and noise are the same in every evaluation.
const SEED: u64 = 0x9a55;
/// The time at which codes are looked for under the noise: its deviation is 0.31 of the latents' own.
const ROUNDING_TIME: f64 = 0.2;

/// A held-out image, by its place in [`GaussianJob::held`], at a time.
type Item = (usize, f64);

/// What a pass of the network gives for an [`Item`], each as long as a latent.
struct Seen<'a> {
    noisy: &'a [f32],
    predicted: &'a [f32],
    /// Of the prediction.
    error: &'a [f32],
}

impl GaussianJob {
    pub(super) fn record_evaluation(&self, table: &mut ParamTable) -> Result<Tape> {
        let mut tape = Tape::new();
        let mut s = Scope::new(&mut tape, table);
        let pass =
            batch::record(&mut s, &self.config.denoiser, self.grid, self.config.train.micro())?;
        let error = ops::sub(s.tape, pass.predicted, pass.velocity)?;
        tape.output("error", error)?;
        tape.output("noisy", pass.noisy)?;
        tape.output("predicted", pass.predicted)?;
        Ok(tape)
    }

    /// The held-out images that are evaluated, as rows of the data set: at most `diffusion.eval_images`.
    fn held(&self) -> Vec<u32> {
        let test = &self.data.split.test;
        evenly(test.len(), self.config.diffusion.eval_images).map(|i| test[i]).collect()
    }

    /// `v_loss`, the mean of |v - v^|^2 over numbers, stratified times and held-out images, and its standard
    /// error over images. With codes also the share of those that are found again when a latent at
    /// [`ROUNDING_TIME`] is denoised in one step and rounded, `codes_found`, and that share without the
    /// network, `codes_found_noisy`.
    pub(super) fn held_out(&mut self, store: &mut Store) -> Result<Numbers> {
        let held = self.held();
        let images = held.len();
        let spread = |image: usize| {
            let u = Rng::new(SEED, Stream::DiffusionTime, image as u64).uniform();
            let mut times = [0.0; TIMES];
            stratified_times(u, TIMES, 0, 0.0, &mut times);
            times.map(|t| (image, t))
        };
        let items: Vec<Item> = (0..images).flat_map(spread).collect();
        let mut each = vec![0.0f64; images];
        self.pass(store, &held, &items, |(image, _), seen| {
            let squares: f64 = seen.error.iter().map(|&e| f64::from(e).powi(2)).sum();
            each[image] += squares / (seen.error.len() * TIMES) as f64;
        })?;
        let n = images as f64;
        let mean = each.iter().sum::<f64>() / n;
        let variance = each.iter().map(|b| (b - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        let mut numbers: Numbers =
            vec![("v_loss".into(), mean), ("standard_error".into(), (variance / n).sqrt())];
        if self.tokenizer.config.model.bottleneck == Bottleneck::Vq {
            let [found, noisy] = self.codes_found(store, &held)?;
            numbers.push(("codes_found".into(), found));
            numbers.push(("codes_found_noisy".into(), noisy));
        }
        Ok(numbers)
    }

    fn codes_found(&mut self, store: &mut Store, held: &[u32]) -> Result<[f64; 2]> {
        let length = self.grid.length();
        let items: Vec<Item> = (0..held.len()).map(|image| (image, ROUNDING_TIME)).collect();
        let (mut denoised, mut noisy) = (vec![], vec![]);
        let (a, s) = (alpha(ROUNDING_TIME) as f32, sigma(ROUNDING_TIME) as f32);
        self.pass(store, held, &items, |_, seen| {
            denoised.extend(seen.noisy.iter().zip(seen.predicted).map(|(x, v)| a * x - s * v));
            noisy.extend(seen.noisy.iter().map(|x| x / a));
        })?;
        let mut clean = Vec::with_capacity(denoised.len());
        for &row in held {
            clean.extend_from_slice(&self.latents[row as usize * length..][..length]);
        }
        if self.rounding.is_none() {
            let (grid, micro) = (self.grid, self.config.train.micro());
            let standard = self.standard.clone();
            let device = (self.open)()?;
            self.rounding =
                Some(Decoder::new(&self.tokenizer, grid, standard, micro, false, device)?);
        }
        let Some(rounding) = &mut self.rounding else { return Ok([f64::NAN; 2]) };
        let truth = rounding.codes(&clean)?;
        let mut share = |latents: &[f32]| -> Result<f64> {
            let codes = rounding.codes(latents)?;
            let same = codes.iter().zip(&truth).filter(|(a, b)| a == b).count();
            Ok(same as f64 / truth.len() as f64)
        };
        Ok([share(&denoised)?, share(&noisy)?])
    }

    /// Runs the evaluation plan over `items` of `held`, a micro-batch at a time, the last one filled up.
    fn pass(
        &self,
        store: &mut Store,
        held: &[u32],
        items: &[Item],
        mut see: impl FnMut(Item, Seen<'_>),
    ) -> Result<()> {
        let Some(plan) = &self.evaluation else {
            return Err(Error::failed("the evaluation plan was not compiled"));
        };
        let (micro, length) = (self.config.train.micro(), self.grid.length());
        let mut batch = MicroBatch::default();
        for (at, chunk) in items.chunks(micro).enumerate() {
            let filled = || (0..micro).map(|i| chunk[i.min(chunk.len() - 1)]);
            batch.samples.rows.clear();
            batch.samples.rows.extend(filled().map(|(image, _)| held[image]));
            batch.samples.classes.clear();
            batch.samples.classes.extend(batch.samples.rows.iter().map(|&r| self.data.class_of(r)));
            batch.samples.times.clear();
            batch.samples.times.extend(filled().map(|(_, t)| t));
            batch.write(&self.latents, length, store, plan)?;
            let step = StepScalars {
                seed_lo: SEED as u32,
                sample_base: (at * micro) as u32,
                ..StepScalars::default()
            };
            plan.run_lane(store, 0, &step)?;
            let [noisy, predicted, error] = ["noisy", "predicted", "error"]
                .map(|name| plan.output(name).and_then(|range| store.read_f32(range)));
            let (noisy, predicted, error) = (noisy?, predicted?, error?);
            for (i, &item) in chunk.iter().enumerate() {
                let own = i * length..(i + 1) * length;
                see(
                    item,
                    Seen {
                        noisy: &noisy[own.clone()],
                        predicted: &predicted[own.clone()],
                        error: &error[own],
                    },
                );
            }
        }
        Ok(())
    }
}
