//! New images from a trained denoiser and its tokenizer's decoder.

use super::codes::{Tokenizer, of_one_head};
use crate::config::Config;
use crate::device::Device;
use crate::device::tuner::{Table, Tuner};
use crate::diffusion::Corruption;
use crate::diffusion::sampler::{Run, Sampler, TokenModel};
use crate::error::{Error, Result};
use crate::kernels::StepScalars;
use crate::model::denoiser::{self, CONTEXT, DROPPED, Grid, TIME};
use crate::model::quantiser::of_head;
use crate::model::{Scope, autoencoder};
use crate::ops;
use crate::plan::{Options, Plan, Store, Weights};
use crate::tape::{Act, Idx, Tape};

/// What to generate.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    pub sampler: Sampler,
    pub steps: usize,
    /// Scale of classifier-free guidance; 1: none.
    pub guidance: f32,
    pub temperature: f32,
    /// Draw from the likeliest tokens that have this share of the probability; 1: from all.
    pub top_p: f32,
    /// Draw from so many of the likeliest tokens; 0: from all.
    pub top_k: u32,
    pub seed: u64,
    /// Global index of the first sample.
    pub first: u64,
}

/// Denoiser and decoder compiled for batches of `n` samples.
#[derive(Debug)]
pub struct Generator {
    n: usize,
    /// Codes a place of the latent grid.
    heads: usize,
    grid: Grid,
    corruption: Corruption,
    /// See [`Generator::condition_on`].
    contexts: Vec<f32>,
    plan: Plan,
    decoder: (Store, Plan),
}

impl Generator {
    /// `store` holds the denoiser's weights; the decoder gets a store of its own on `device`.
    pub fn new(
        config: &Config,
        grid: Grid,
        n: usize,
        weights: Weights,
        store: &mut Store,
        tokenizer: &Tokenizer,
        device: Box<dyn Device>,
    ) -> Result<Self> {
        let (mut tape, mut table) = (Tape::new(), store.table().clone());
        let mut s = Scope::new(&mut tape, &mut table);
        // Unconditional and conditional branch in one doubled batch.
        let tokens = s.tape.input_idx("tokens", &[2 * n * grid.tokens()])?;
        let class = s.tape.input_idx("class", &[2 * n])?;
        let logits = denoiser::logits(&mut s, &config.denoiser, grid, 2 * n, tokens, class)?;
        let (drawn, logp): (Idx, Act) = ops::draw_tokens(s.tape, logits)?;
        tape.output("drawn", drawn)?;
        tape.output("logp", logp)?;
        let options = Options { weights, ..Options::default() };
        let plan = Plan::compile(store, &tape, &options, &mut |_, _| {})?;
        let heads = tokenizer.heads();
        let places = [n, grid.rows, grid.cols / heads];
        let decoder = tokenizer.plan(device, |s| {
            let mut idx = vec![];
            for head in 0..heads {
                let name = of_head("idx", head);
                idx.push(s.tape.input_idx(&name, &[places.iter().product()])?);
            }
            let image = autoencoder::decode_indices(s, &tokenizer.config, &idx, places)?;
            s.tape.output("image", image)
        })?;
        let corruption = Corruption::new(&config.diffusion, grid.codes)?;
        Ok(Generator { n, heads, grid, corruption, contexts: vec![], plan, decoder })
    }

    /// The embeddings of the samples that are generated from now on, one after the other; for a run that
    /// was trained with them.
    pub fn condition_on(&mut self, contexts: Vec<f32>) {
        self.contexts = contexts;
    }

    /// Writes the embeddings: none, which the learnable null stands for, and then those given.
    fn write_contexts(&self, store: &mut Store) -> Result<()> {
        let Some(of) = self.grid.context else { return Ok(()) };
        let len = self.n * of.tokens * of.width;
        if self.contexts.len() != len {
            let given = self.contexts.len();
            return Err(Error::usage(
                "the run was trained on embeddings, which samples need as well",
            )
            .why(format!("{given} of {len} numbers were given"))
            .help("sample with --embeddings FILE.npy"));
        }
        let both = [&vec![0.0; len], &self.contexts[..]].concat();
        store.write_f32(self.plan.input(CONTEXT)?, &both)?;
        let dropped = [vec![1.0; self.n], vec![0.0; self.n]].concat();
        store.write_f32(self.plan.input(DROPPED)?, &dropped)
    }

    /// Steps where the user gives none.
    pub fn default_steps(&self, sampler: Sampler) -> usize {
        match &self.corruption {
            Corruption::Masked(_) => sampler.default_steps(self.grid.tokens()),
            Corruption::Chain(chain) => {
                sampler.default_steps(self.grid.tokens()).min(chain.steps())
            }
        }
    }

    /// What the tuner chose for the decoder.
    pub fn choices(&self) -> Table {
        self.decoder.0.device.tuner().map(Tuner::used).cloned().unwrap_or_default()
    }

    /// One sample a class: codes and images in [0, 1]. `given`: as [`Run::given`].
    pub fn generate(
        &mut self,
        store: &mut Store,
        classes: &[u32],
        given: &[u32],
        how: &Request,
    ) -> Result<(Vec<u32>, Vec<f32>)> {
        if classes.len() != self.n {
            return Err(Error::failed(format!("{} classes for {} samples", classes.len(), self.n)));
        }
        let mut both = vec![self.grid.classes as u32; self.n];
        both.extend_from_slice(classes);
        store.write_u32(self.plan.input("class")?, &both)?;
        self.write_contexts(store)?;
        let run = Run {
            sampler: how.sampler,
            corruption: &self.corruption,
            steps: how.steps,
            samples: self.n,
            length: self.grid.tokens(),
            cols: self.grid.cols,
            mask: self.grid.codes as u32,
            seed: how.seed,
            first: how.first,
            given,
        };
        let codes = run.sample(&mut OnDevice { store, plan: &self.plan, how, grid: self.grid })?;
        let (decoder, plan) = &mut self.decoder;
        for head in 0..self.heads {
            let own = of_one_head(&codes, head, self.heads);
            decoder.write_u32(plan.input(&of_head("idx", head))?, &own)?;
        }
        plan.run_lane(decoder, 0, &StepScalars::default())?;
        let mut images = decoder.read_f32(plan.output("image")?)?;
        images.iter_mut().for_each(|v| *v = (*v * 0.5 + 0.5).clamp(0.0, 1.0));
        Ok((codes, images))
    }
}

/// The denoiser's plan as a sampler sees it.
struct OnDevice<'a> {
    store: &'a mut Store,
    plan: &'a Plan,
    how: &'a Request,
    grid: Grid,
}

impl TokenModel for OnDevice<'_> {
    fn draw(&mut self, xt: &[u32], round: u32, time: u32) -> Result<(Vec<u32>, Vec<f32>)> {
        let doubled: Vec<u32> = xt.iter().chain(xt).copied().collect();
        self.store.write_u32(self.plan.input("tokens")?, &doubled)?;
        if self.grid.times > 0 {
            let samples = doubled.len() / self.grid.tokens();
            self.store.write_u32(self.plan.input(TIME)?, &vec![time; samples])?;
        }
        let step = StepScalars {
            // Rounds of different parts of a run draw different numbers.
            step: ((self.how.first as u32) << 12) | round,
            seed_lo: self.how.seed as u32,
            seed_hi: (self.how.seed >> 32) as u32,
            sample_base: self.how.first as u32,
            temperature: self.how.temperature,
            top_p: self.how.top_p,
            top_k: self.how.top_k,
            guidance: self.how.guidance,
            ..StepScalars::default()
        };
        self.plan.run_lane(self.store, 0, &step)?;
        let drawn = self.store.read_u32(self.plan.output("drawn")?)?;
        let logp = self.store.read_f32(self.plan.output("logp")?)?;
        Ok((drawn, logp))
    }
}
