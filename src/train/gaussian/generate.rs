//! New images from a trained denoiser of latents and its tokenizer's decoder.

use super::super::judged_weights;
use super::batch::{CLASS, TIME};
use crate::config::{Bottleneck, Config, Denoiser};
use crate::device::Device;
use crate::device::tuner::{Table, Tuner};
use crate::diffusion::gaussian::{Run, VelocityModel};
use crate::diffusion::sampler::{Pace, Sampler};
use crate::error::{Error, Result};
use crate::kernels::StepScalars;
use crate::model::denoiser::continuous::{LatentGrid, TIME_FEATURES, time_features, velocity};
use crate::model::quantiser::of_head;
use crate::model::{Scope, autoencoder};
use crate::ops;
use crate::plan::{Options, Plan, Store, Weights};
use crate::tape::{Act, Tape};
use crate::train::codes::{Tokenizer, side_by_side};
use crate::train::generate::Request;
use crate::train::latents::Standard;

/// Inputs of the network's plan: the state, and guidance - 1.
const STATE: &str = "state";
const EXTRA: &str = "extra_guidance";

/// The second half of a tokenizer: standardised latents to codes and images.
#[derive(Debug)]
pub(super) struct Decoder {
    store: Store,
    plan: Plan,
    standard: Standard,
    /// Of a batch: samples, and the numbers and places of one.
    batch: [usize; 3],
    /// Codes a place; 0 of a KL-VAE.
    heads: usize,
}

impl Decoder {
    /// For batches of `n`; without `images` it only rounds.
    pub fn new(
        tokenizer: &Tokenizer,
        grid: LatentGrid,
        standard: Standard,
        n: usize,
        images: bool,
        device: Box<dyn Device>,
    ) -> Result<Self> {
        let dims = [n, grid.rows, grid.cols, grid.channels];
        let config = &tokenizer.config;
        let (store, plan) = tokenizer.plan(device, |s| {
            let points = s.tape.input("points", &dims)?;
            let (idx, code) = autoencoder::round(s, config, points)?;
            for (head, idx) in idx.into_iter().enumerate() {
                s.tape.output(&of_head("idx", head), idx)?;
            }
            if images {
                let image = autoencoder::decode(s, &config.model, code)?;
                s.tape.output("image", image)?;
            }
            Ok(())
        })?;
        let heads = match config.model.bottleneck {
            Bottleneck::Vq => tokenizer.heads(),
            Bottleneck::Kl => 0,
        };
        Ok(Decoder { store, plan, standard, batch: [n, grid.length(), grid.places()], heads })
    }

    /// What the tuner chose.
    pub fn choices(&self) -> Table {
        self.store.device.tuner().map(Tuner::used).cloned().unwrap_or_default()
    }

    /// Replays the plan for a full batch; its codes.
    fn run(&mut self, mut latents: Vec<f32>) -> Result<Vec<u32>> {
        self.standard.undo(&mut latents);
        self.store.write_f32(self.plan.input("points")?, &latents)?;
        self.plan.run_lane(&mut self.store, 0, &StepScalars::default())?;
        let mut heads = vec![];
        for head in 0..self.heads {
            let range = self.plan.output(&of_head("idx", head))?;
            heads.push(self.store.read_u32(range)?);
        }
        let [n, _, places] = self.batch;
        Ok(side_by_side(&heads, n * places).collect())
    }

    /// The codes nearest to any number of latents.
    pub fn codes(&mut self, latents: &[f32]) -> Result<Vec<u32>> {
        let [n, length, places] = self.batch;
        let mut codes = vec![];
        for chunk in latents.chunks(n * length) {
            let mut full = chunk.to_vec();
            full.resize(n * length, 0.0);
            let made = self.run(full)?;
            codes.extend_from_slice(&made[..chunk.len() / length * places * self.heads]);
        }
        Ok(codes)
    }

    /// Codes, none of a KL-VAE, and images in [0, 1] of a full batch.
    pub fn images(&mut self, latents: Vec<f32>) -> Result<(Vec<u32>, Vec<f32>)> {
        let codes = self.run(latents)?;
        let mut images = self.store.read_f32(self.plan.output("image")?)?;
        images.iter_mut().for_each(|v| *v = (*v * 0.5 + 0.5).clamp(0.0, 1.0));
        Ok((codes, images))
    }
}

/// Denoiser and decoder for batches of `n` samples. The denoiser is compiled when it is first asked: with
/// guidance for twice the batch, without for the batch itself.
#[derive(Debug)]
pub struct LatentGenerator {
    n: usize,
    grid: LatentGrid,
    denoiser: Denoiser,
    weights: Weights,
    plain: Option<Plan>,
    guided: Option<Plan>,
    decoder: Decoder,
}

impl LatentGenerator {
    /// The decoder gets a store of its own on `device`.
    pub fn new(
        config: &Config,
        grid: LatentGrid,
        standard: Standard,
        n: usize,
        tokenizer: &Tokenizer,
        device: Box<dyn Device>,
    ) -> Result<Self> {
        Ok(LatentGenerator {
            n,
            grid,
            denoiser: config.denoiser.clone(),
            weights: judged_weights(&config.train),
            plain: None,
            guided: None,
            decoder: Decoder::new(tokenizer, grid, standard, n, true, device)?,
        })
    }

    /// What the tuner chose for the decoder.
    pub fn choices(&self) -> Table {
        self.decoder.choices()
    }

    /// Records the velocity of a batch, guided as v_c + (guidance - 1) (v_c - v_u) (Ho & Salimans,
    /// 2207.12598): at guidance 1 exactly v_c.
    fn record(&self, s: &mut Scope<'_>, guided: bool) -> Result<Act> {
        let (n, length) = (self.n, self.grid.length());
        let x = s.tape.input(STATE, &[n, length])?;
        let batch = if guided { 2 * n } else { n };
        let time = s.tape.input(TIME, &[batch, TIME_FEATURES])?;
        let class = s.tape.input_idx(CLASS, &[batch])?;
        let network = |s: &mut Scope<'_>, x: Act| {
            let x = s.tape.reshape(x, &[batch, self.grid.places(), self.grid.channels])?;
            velocity(s, &self.denoiser, self.grid, x, time, class)
        };
        if !guided {
            return network(s, x);
        }
        // Unconditional and conditional branch in one doubled batch.
        let twice = (0..2 * n).map(|i| (i % n) as u32).collect();
        let twice = s.tape.constant_idx(&[2 * n], twice)?;
        let both = ops::lookup(s.tape, twice, x)?;
        let v = network(s, both)?;
        let v = s.tape.reshape(v, &[2 * n, length])?;
        let half = |s: &mut Scope<'_>, from: usize| {
            let rows = s.tape.constant_idx(&[n], (from..from + n).map(|i| i as u32).collect())?;
            ops::lookup(s.tape, rows, v)
        };
        let (without, with) = (half(s, 0)?, half(s, n)?);
        let extra = s.tape.input(EXTRA, &[1])?;
        let apart = ops::sub(s.tape, with, without)?;
        let apart = ops::scale_by(s.tape, apart, extra)?;
        ops::add(s.tape, with, apart)
    }

    /// Compiles the network in `store`, unless it was.
    fn prepare(&mut self, store: &mut Store, guided: bool) -> Result<()> {
        let known = if guided { &self.guided } else { &self.plain };
        if known.is_some() {
            return Ok(());
        }
        let (mut tape, mut table) = (Tape::new(), store.table().clone());
        let v = self.record(&mut Scope::new(&mut tape, &mut table), guided)?;
        tape.output("velocity", v)?;
        let options = Options { weights: self.weights, ..Options::default() };
        let plan = Plan::compile(store, &tape, &options, &mut |_, _| {})?;
        *(if guided { &mut self.guided } else { &mut self.plain }) = Some(plan);
        Ok(())
    }

    /// One sample a class: codes, where the tokenizer has any, and images in [0, 1]. `store` holds the
    /// denoiser's weights.
    ///
    /// # Errors
    /// A sampler or a temperature that is of codes; see [`Run::sample`].
    pub fn generate(
        &mut self,
        store: &mut Store,
        classes: &[u32],
        how: &Request,
    ) -> Result<(Vec<u32>, Vec<f32>)> {
        if classes.len() != self.n {
            return Err(Error::failed(format!("{} classes for {} samples", classes.len(), self.n)));
        }
        if (how.temperature, how.top_p, how.top_k) != (1.0, 1.0, 0) {
            return Err(Error::usage("there are no probabilities to sharpen or to cut")
                .at("--temperature, --top-p or --top-k")
                .why("the diffusion was trained with Gaussian noise on latents")
                .help("leave them out; --guidance makes samples more typical of their class"));
        }
        if how.pace != Pace::Trained {
            return Err(Error::usage("there are no masks that could go by another grid of times")
                .at("--grid")
                .why("the diffusion was trained with Gaussian noise on latents")
                .help("leave --grid out: the steps are equal turns"));
        }
        // Without classes both branches are the same.
        let guided = how.guidance != 1.0 && self.grid.classes > 0;
        let latents = self.latents(store, classes, how, guided)?;
        self.decoder.images(latents)
    }

    /// Standardised latents, [n, places, channels].
    pub(super) fn latents(
        &mut self,
        store: &mut Store,
        classes: &[u32],
        how: &Request,
        guided: bool,
    ) -> Result<Vec<f32>> {
        let eta = match how.sampler {
            Sampler::Ancestral => 1.0,
            Sampler::Ddim { eta } => eta,
            _ => {
                return Err(Error::usage("this sampler is of codes that are masked")
                    .why("the diffusion was trained with Gaussian noise on latents")
                    .help("use --sampler ancestral or --sampler ddim"));
            }
        };
        self.prepare(store, guided)?;
        let Some(plan) = (if guided { &self.guided } else { &self.plain }) else {
            return Err(Error::failed("the denoiser was not compiled"));
        };
        if guided {
            let null = vec![self.grid.classes as u32; self.n];
            store.write_u32(plan.input(CLASS)?, &[&null, classes].concat())?;
        } else {
            store.write_u32(plan.input(CLASS)?, classes)?;
        }
        let run = Run {
            steps: how.steps,
            eta,
            samples: self.n,
            length: self.grid.length(),
            seed: how.seed,
            first: how.first,
        };
        run.sample(&mut OnDevice { store, plan, how, samples: self.n, guided })
    }
}

/// The denoiser's plan as a sampler sees it.
struct OnDevice<'a> {
    store: &'a mut Store,
    plan: &'a Plan,
    how: &'a Request,
    samples: usize,
    guided: bool,
}

impl VelocityModel for OnDevice<'_> {
    fn velocity(&mut self, x: &[f32], round: usize, time: f64) -> Result<Vec<f32>> {
        let mut batch = self.samples;
        if self.guided {
            let Request { guidance, guidance_schedule, steps, .. } = *self.how;
            let extra = guidance_schedule.at(guidance, round, steps) - 1.0;
            self.store.write_f32(self.plan.input(EXTRA)?, &[extra])?;
            batch *= 2;
        }
        self.store.write_f32(self.plan.input(STATE)?, x)?;
        let features = time_features(time).repeat(batch);
        self.store.write_f32(self.plan.input(TIME)?, &features)?;
        self.plan.run_lane(self.store, 0, &StepScalars::default())?;
        self.store.read_f32(self.plan.output("velocity")?)
    }
}
