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
use super::feeder::Feeder;
use super::generate::Request;
use super::latents::{STANDARD, Standard};
use super::session::Numbers;
use super::{Console, Job, Material, RunFolder, Session, judged_weights, training_options};
use crate::config::Config;
use crate::device::Device;
use crate::device::tuner::Table;
use crate::diffusion::sampler::Sampler;
use crate::error::{Error, Result};
use crate::model::Scope;
use crate::model::denoiser::continuous::LatentGrid;
use crate::ops;
use crate::plan::{Options, ParamTable, Plan, Store};
use crate::report::{Colormap, Grid as Sheet, write_png};
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
    feeder: Feeder,
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
        let feeder = Feeder::new(&data, &config)?;
        let fitted = || Standard::fit(&latents, train, grid.length(), grid.channels);
        let standard = known.unwrap_or_else(fitted);
        standard.apply(&mut latents);
        Ok(GaussianJob {
            micro_batch: MicroBatch::default(),
            config,
            data,
            tokenizer,
            grid,
            standard,
            latents,
            feeder,
            evaluation: None,
            rounding: None,
            open,
            sampling: None,
        })
    }

    /// Compiles the training and evaluation plans on `device`.
    pub fn session(
        &mut self,
        device: Box<dyn Device>,
        folder: Option<RunFolder>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Session> {
        let (mut tape, mut table) = (Tape::new(), ParamTable::default());
        record(&mut tape, &mut table, &self.config, self.grid, self.config.train.micro())?;
        let mut store = Store::new(device, table.clone(), self.config.train.seed)?;
        let options = training_options(&self.config.train);
        let plan = Plan::compile(&mut store, &tape, &options, progress)?;
        let tape = self.record_evaluation(&mut table)?;
        let options = Options { weights: judged_weights(&self.config.train), ..Options::default() };
        self.evaluation = Some(Plan::compile(&mut store, &tape, &options, progress)?);
        Ok(Session::new(store, plan, self.config.clone(), folder))
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
        vec![
            ("grid".into(), serde_json::json!([rows, cols * heads, codes, classes]).to_string()),
            ("class_names".into(), serde_json::json!(self.data.class_names()).to_string()),
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
        // Taken out for the call, so that it can be filled from `self`.
        let mut now = std::mem::take(&mut self.micro_batch);
        self.feeder.deal(&self.data, &self.config, (step, lane), 0.0, &mut now.samples);
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
