//! What a micro-batch of codes is fed to the device with.

use super::super::feeder::Samples;
use crate::config::{Diffusion, Weighting};
use crate::data::Embeddings;
use crate::diffusion::process::Step;
use crate::diffusion::{Chain, Corruption, Masking};
use crate::error::Result;
use crate::model::denoiser::{CONTEXT, DROPPED, TIME};
use crate::ops::{NOISE, Noise};
use crate::plan::{Plan, Store};

/// What [`ops::posterior_loss`](crate::ops::posterior_loss) has to know of a step, whose divergence counts
/// `bound` times and its cross-entropy `auxiliary` times; `first`: the earlier time is the start.
pub fn noise(step: Step, bound: f64, auxiliary: f64, first: bool) -> Noise<f32> {
    let Step { earlier, later, keep, replace, .. } = step;
    Noise {
        alpha_s: earlier.alpha as f32,
        beta_s: earlier.beta as f32,
        alpha_t: later.alpha as f32,
        beta_t: later.beta as f32,
        keep: keep as f32,
        replace: replace as f32,
        reveal: step.reveal() as f32,
        bound: bound as f32,
        auxiliary: auxiliary as f32,
        first: if first { 1.0 } else { 0.0 },
    }
}

/// [`noise`] of step `t` of a chain where each of its losses counts `times`, as words.
pub(super) fn words(settings: &Diffusion, chain: &Chain, t: usize, times: f64) -> [f32; NOISE] {
    let adaptive = 2.0 - t as f64 / chain.steps() as f64;
    let share = if settings.adaptive_auxiliary { adaptive } else { 1.0 };
    let auxiliary = settings.auxiliary * share * times;
    noise(chain.step(t.checked_sub(1), t), times, auxiliary, t == 0).words()
}

/// What a batch is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The loss that is minimised, whatever it weighs.
    Training,
    /// The bound on the likelihood.
    Bound,
}

/// The inputs of a micro-batch on the host; the vectors are reused from step to step.
#[derive(Debug, Default)]
pub(super) struct MicroBatch {
    pub samples: Samples,
    codes: Vec<u32>,
    masked: Vec<f32>,
    weight: Vec<f32>,
    steps: Vec<u32>,
    noise: Vec<f32>,
    context: Vec<f32>,
}

impl MicroBatch {
    /// Writes `rows`, `classes` and what follows from `times`; `codes` are those of every image,
    /// `length` an image.
    pub fn write(
        &mut self,
        codes: &[u32],
        length: usize,
        how: (&Diffusion, &Corruption, Purpose),
        store: &mut Store,
        plan: &Plan,
    ) -> Result<()> {
        self.codes.clear();
        self.codes.extend(
            self.samples.rows.iter().flat_map(|&r| &codes[r as usize * length..][..length]),
        );
        store.write_u32(plan.input("codes")?, &self.codes)?;
        store.write_u32(plan.input("class")?, &self.samples.classes)?;
        let (settings, corruption, purpose) = how;
        match corruption {
            Corruption::Masked(schedule) => {
                let masking = Masking { schedule: *schedule, steps: settings.discrete_steps };
                let weighting = match purpose {
                    Purpose::Training => settings.weighting,
                    Purpose::Bound => Weighting::Bound,
                };
                self.write_masked(masking, weighting, store, plan)
            }
            // The device draws them itself.
            Corruption::Chain(_)
                if purpose == Purpose::Training && settings.samples_by_importance() =>
            {
                Ok(())
            }
            Corruption::Chain(chain) => self.write_steps(settings, chain, store, plan),
        }
    }

    /// Writes the embeddings of `rows`, zeros where they are dropped.
    pub fn write_context(
        &mut self,
        embeddings: &Embeddings,
        store: &mut Store,
        plan: &Plan,
    ) -> Result<()> {
        self.context.clear();
        for (&row, &dropped) in self.samples.rows.iter().zip(&self.samples.dropped) {
            let given = embeddings.row(row as usize);
            self.context.extend(given.iter().map(|&v| if dropped == 0.0 { v } else { 0.0 }));
        }
        store.write_f32(plan.input(CONTEXT)?, &self.context)?;
        store.write_f32(plan.input(DROPPED)?, &self.samples.dropped)
    }

    /// By the mask alone.
    fn write_masked(
        &mut self,
        masking: Masking,
        weighting: Weighting,
        store: &mut Store,
        plan: &Plan,
    ) -> Result<()> {
        self.masked.clear();
        self.weight.clear();
        for t in self.samples.times.iter().map(|&t| masking.time(t)) {
            self.masked.push(masking.schedule.masked(t) as f32);
            self.weight.push(masking.weight(t, weighting) as f32);
        }
        store.write_f32(plan.input("mask_probability")?, &self.masked)?;
        store.write_f32(plan.input("weight")?, &self.weight)
    }

    /// In a chain of T steps, of which time t in (0, 1] is the ceil(t T)-th; all are drawn alike, so that
    /// a step's loss counts T times, as one over its chance.
    fn write_steps(
        &mut self,
        settings: &Diffusion,
        chain: &Chain,
        store: &mut Store,
        plan: &Plan,
    ) -> Result<()> {
        let all = chain.steps() as f64;
        self.steps.clear();
        self.steps.extend(self.samples.times.iter().map(|t| ((t * all).ceil() as u32).max(1) - 1));
        self.noise.clear();
        for &t in &self.steps {
            self.noise.extend(words(settings, chain, t as usize, all));
        }
        store.write_u32(plan.input(TIME)?, &self.steps)?;
        store.write_f32(plan.input("noise")?, &self.noise)
    }
}
