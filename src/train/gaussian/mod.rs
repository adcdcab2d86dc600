//! The Gaussian diffusion job: denoising of continuous latents, the loss on held-out latents and the share
//! of codes that are found again, class-conditional sample pictures.
//!
//! The loss is no bound on the likelihood of codes: there are no bits a token here.

mod batch;
mod evaluation;
mod generate;
#[cfg(test)]
mod tests;

pub use generate::LatentGenerator;

use super::codes::Tokenizer;
use super::generate::Request;
use super::latents::{STANDARD, Standard};
use super::session::Numbers;
use super::{Console, Job, Material, RunFolder, Session, optimiser};
use crate::config::Config;
use crate::data::batches::BatchOrder;
use crate::device::Device;
use crate::device::tuner::Table;
use crate::diffusion::sampler::Sampler;
use crate::diffusion::stratified_times;
use crate::error::{Error, Result};
use crate::model::Scope;
use crate::model::denoiser::continuous::LatentGrid;
use crate::ops;
use crate::plan::{Options, ParamTable, Plan, Store, Weights};
use crate::report::{Colormap, Grid as Sheet, write_png};
use crate::rng::{Rng, Stream};
use crate::tape::Tape;
use batch::MicroBatch;
use generate::Decoder;
use std::path::Path;
use std::sync::Arc;

/// Rows of the sample picture.
const SHOWN: usize = 8;
const GUIDANCE: f32 = 1.5;

pub struct GaussianJob {
    config: Config,
    data: Arc<Material>,
    tokenizer: Tokenizer,
    grid: LatentGrid,
    standard: Standard,
    /// Standardised, of every image.
    latents: Vec<f32>,
    order: BatchOrder,
    rows: Vec<u32>,
    rows_of: Option<u64>,
    micro_batch: MicroBatch,
    evaluation: Option<Plan>,
    /// Rounds held-out latents to codes.
    rounding: Option<Decoder>,
    /// Opens a device for the tokenizer.
    open: Box<dyn Fn() -> Result<Box<dyn Device>>>,
    sampling: Option<LatentGenerator>,
}

impl std::fmt::Debug for GaussianJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GaussianJob").field("grid", &self.grid).finish()
    }
}

/// Records the training step.
pub fn record(
    tape: &mut Tape,
    table: &mut ParamTable,
    config: &Config,
    grid: LatentGrid,
    batch: usize,
) -> Result<()> {
    tape.set_precision(config.train.precision);
    tape.set_recompute(config.train.recompute);
    let mut s = Scope::new(tape, table);
    let pass = batch::record(&mut s, &config.denoiser, grid, batch)?;
    let (name, [predicted, velocity]) = match config.diffusion.min_snr > 0.0 {
        false => ("v_loss", [pass.predicted, pass.velocity]),
        true => {
            let root = batch::per_sample(&mut s, batch::ROOT_WEIGHT, batch, grid.length())?;
            let predicted = ops::mul(s.tape, pass.predicted, root)?;
            ("weighted_v_loss", [predicted, ops::mul(s.tape, pass.velocity, root)?])
        }
    };
    let loss = ops::mse(s.tape, predicted, velocity)?;
    tape.report(name, loss)?;
    tape.backward(&[(loss, 1.0)])
}

impl GaussianJob {
    /// `latents`: of every image of the data, by `tokenizer`; `known`: how they were standardised in the run
    /// that is continued.
    pub fn new(
        mut config: Config,
        data: Arc<Material>,
        tokenizer: Tokenizer,
        mut latents: Vec<f32>,
        known: Option<Standard>,
        open: Box<dyn Fn() -> Result<Box<dyn Device>>>,
    ) -> Result<Self> {
        let grid = tokenizer.latent_grid(&data.images)?;
        if latents.len() != data.images.n * grid.length() {
            return Err(Error::failed("another number of latents than the images have"));
        }
        let train = &data.split.train;
        // Written down, as a resumed run does: there are no steps to draw.
        config.diffusion.importance = Some(false);
        let order = BatchOrder::new(train.len(), config.train.batch, config.train.seed)?;
        let fitted = || Standard::fit(&latents, train, grid.length(), grid.channels);
        let standard = known.unwrap_or_else(fitted);
        standard.apply(&mut latents);
        Ok(GaussianJob {
            rows: vec![0; config.train.batch],
            rows_of: None,
            micro_batch: MicroBatch::default(),
            config,
            data,
            tokenizer,
            grid,
            standard,
            latents,
            order,
            evaluation: None,
            rounding: None,
            open,
            sampling: None,
        })
    }

    fn micro(&self) -> usize {
        self.config.train.batch / self.config.train.lanes.max(1)
    }

    fn class_of(&self, row: u32) -> u32 {
        self.data.images.labels.as_ref().map_or(0, |l| l[row as usize])
    }

    /// Compiles the training and evaluation plans on `device`.
    pub fn session(
        &mut self,
        device: Box<dyn Device>,
        folder: Option<RunFolder>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Session> {
        let (mut tape, mut table) = (Tape::new(), ParamTable::default());
        record(&mut tape, &mut table, &self.config, self.grid, self.micro())?;
        let mut store = Store::new(device, table.clone(), self.config.train.seed)?;
        let options = Options {
            optimiser: Some(optimiser(&self.config.train)),
            lanes: self.config.train.lanes,
            ..Options::default()
        };
        let plan = Plan::compile(&mut store, &tape, &options, progress)?;
        let tape = self.record_evaluation(&mut table)?;
        let options = Options { weights: self.weights(), ..Options::default() };
        self.evaluation = Some(Plan::compile(&mut store, &tape, &options, progress)?);
        Ok(Session::new(store, plan, self.config.clone(), folder))
    }

    fn weights(&self) -> Weights {
        match self.config.train.ema_decay > 0.0 {
            true => Weights::Average,
            false => Weights::Current,
        }
    }
}

impl Job for GaussianJob {
    fn kind(&self) -> &'static str {
        "diffusion"
    }

    fn meta(&self) -> Vec<(String, String)> {
        let LatentGrid { rows, cols, classes, .. } = self.grid;
        let (heads, codes) =
            (self.tokenizer.heads(), self.tokenizer.config.model.num_vq_embeddings);
        let names: Vec<_> = (0..classes).map(|c| self.data.images.class_name(c as u32)).collect();
        vec![
            ("grid".into(), serde_json::json!([rows, cols * heads, codes, classes]).to_string()),
            ("class_names".into(), serde_json::json!(names).to_string()),
            (STANDARD.into(), serde_json::json!(self.standard).to_string()),
        ]
    }

    fn choices(&self) -> Table {
        let mut choices = self.sampling.as_ref().map(|g| g.choices()).unwrap_or_default();
        choices.merge(self.rounding.as_ref().map(Decoder::choices).unwrap_or_default());
        choices
    }

    fn start(&mut self, _session: &mut Session, console: &mut Console) -> Result<()> {
        let LatentGrid { channels, classes, .. } = self.grid;
        console.line(&format!(
            "{} places of {channels} channels an image, {classes} classes; the loss of a network that \
             knows nothing is 1",
            self.grid.places(),
        ));
        Ok(())
    }

    fn feed(&mut self, store: &mut Store, plan: &Plan, step: u64, lane: usize) -> Result<()> {
        if self.rows_of != Some(step) {
            self.order.indices(step, &mut self.rows);
            self.rows.iter_mut().for_each(|r| *r = self.data.split.train[*r as usize]);
            self.rows_of = Some(step);
        }
        let (micro, batch, seed) = (self.micro(), self.config.train.batch, self.config.train.seed);
        let first = lane * micro;
        // Taken out for the call, so that it can be filled from `self`.
        let mut now = std::mem::take(&mut self.micro_batch);
        now.rows.clear();
        now.rows.extend_from_slice(&self.rows[first..first + micro]);
        let u = Rng::new(seed, Stream::DiffusionTime, step).uniform();
        now.times.resize(micro, 0.0);
        stratified_times(u, batch, first, 0.0, &mut now.times);
        let null = self.grid.classes as u32;
        now.classes.clear();
        now.classes.extend(now.rows.iter().enumerate().map(|(i, &r)| {
            let sample = step * batch as u64 + (first + i) as u64;
            let dropped = Rng::new(seed, Stream::ClassDrop, sample).uniform();
            if dropped < self.config.denoiser.class_drop { null } else { self.class_of(r) }
        }));
        let gamma = self.config.diffusion.min_snr;
        let written = now.write(&self.latents, self.grid.length(), store, plan);
        let written = written.and_then(|()| match gamma > 0.0 {
            true => now.write_weights(gamma, store, plan),
            false => Ok(()),
        });
        self.micro_batch = now;
        written
    }

    fn loss(&self, scalars: &[(String, f32)]) -> f64 {
        scalars.iter().map(|(_, v)| f64::from(*v)).sum()
    }

    fn evaluate(&mut self, store: &mut Store) -> Result<Numbers> {
        self.held_out(store)
    }

    /// The mean squared error of the velocity over standardised latents and all times.
    fn best(&self) -> (&'static str, bool) {
        ("v_loss", false)
    }

    fn pictures(&mut self, store: &mut Store, folder: &Path, step: u64) -> Result<()> {
        let columns = self.grid.classes.clamp(1, 10);
        let classes: Vec<u32> = (0..SHOWN).flat_map(|_| (0..columns).map(|c| c as u32)).collect();
        let mut generator = match self.sampling.take() {
            Some(generator) => generator,
            None => LatentGenerator::new(
                &self.config,
                self.grid,
                self.standard.clone(),
                classes.len(),
                &self.tokenizer,
                (self.open)()?,
            )?,
        };
        let sampler = Sampler::Ddim { eta: 0.0 };
        let steps = sampler.default_steps(self.grid.places());
        let seed = self.config.train.seed;
        let how = Request { guidance: GUIDANCE, seed, ..Request::new(sampler, steps) };
        let (_, images) = generator.generate(store, &classes, &how)?;
        self.sampling = Some(generator);
        let shape = self.data.images.image_shape();
        let sheet = Sheet::new(SHOWN, columns, shape).scaled(2).coloured(Colormap::Perceptual);
        write_png(&folder.join(format!("gen_{step:05}.png")), &sheet.draw(&images)?)
    }
}
