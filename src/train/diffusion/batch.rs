//! What a micro-batch of codes is fed to the device with.

use crate::config::Diffusion;
use crate::data::Embeddings;
use crate::diffusion::{Chain, Corruption, Schedule};
use crate::error::Result;
use crate::model::denoiser::{CONTEXT, DROPPED, TIME};
use crate::plan::{Plan, Store};

/// The inputs of a micro-batch on the host; the vectors are reused from step to step.
#[derive(Debug, Default)]
pub(super) struct MicroBatch {
    /// Images, as rows of the data set.
    pub rows: Vec<u32>,
    pub classes: Vec<u32>,
    pub times: Vec<f64>,
    /// 1 for samples without their class and embedding, else 0.
    pub dropped: Vec<f32>,
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
        how: (&Diffusion, &Corruption),
        store: &mut Store,
        plan: &Plan,
    ) -> Result<()> {
        self.codes.clear();
        self.codes.extend(self.rows.iter().flat_map(|&r| &codes[r as usize * length..][..length]));
        store.write_u32(plan.input("codes")?, &self.codes)?;
        store.write_u32(plan.input("class")?, &self.classes)?;
        match how {
            (_, Corruption::Masked(schedule)) => self.write_masked(*schedule, store, plan),
            (settings, Corruption::Chain(chain)) => self.write_steps(settings, chain, store, plan),
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
        for (&row, &dropped) in self.rows.iter().zip(&self.dropped) {
            let given = embeddings.row(row as usize);
            self.context.extend(given.iter().map(|&v| if dropped == 0.0 { v } else { 0.0 }));
        }
        store.write_f32(plan.input(CONTEXT)?, &self.context)?;
        store.write_f32(plan.input(DROPPED)?, &self.dropped)
    }

    /// In continuous time.
    fn write_masked(&mut self, schedule: Schedule, store: &mut Store, plan: &Plan) -> Result<()> {
        self.masked.clear();
        self.masked.extend(self.times.iter().map(|&t| schedule.masked(t) as f32));
        self.weight.clear();
        self.weight.extend(self.times.iter().map(|&t| schedule.weight(t) as f32));
        store.write_f32(plan.input("mask_probability")?, &self.masked)?;
        store.write_f32(plan.input("weight")?, &self.weight)
    }

    /// In a chain of T steps, of which time t in (0, 1] is the ceil(t T)-th; all are drawn alike, so that
    /// a step's divergence counts T times.
    fn write_steps(
        &mut self,
        settings: &Diffusion,
        chain: &Chain,
        store: &mut Store,
        plan: &Plan,
    ) -> Result<()> {
        let all = chain.steps();
        self.steps.clear();
        self.steps.extend(self.times.iter().map(|t| ((t * all as f64).ceil() as u32).max(1) - 1));
        self.noise.clear();
        for &t in &self.steps {
            let t = t as usize;
            let share = if settings.adaptive_auxiliary { 2.0 - t as f64 / all as f64 } else { 1.0 };
            let auxiliary = settings.auxiliary * share * all as f64;
            let step = chain.step(t.checked_sub(1), t);
            self.noise.extend(step.words(all as f64, auxiliary, t == 0));
        }
        store.write_u32(plan.input(TIME)?, &self.steps)?;
        store.write_f32(plan.input("noise")?, &self.noise)
    }
}
