//! The diffusion job: denoising of code grids, the likelihood bound on held-out codes beside the
//! neighbour model, class-conditional sample pictures.

mod batch;
mod bound;
mod importance;

pub(super) use bound::evenly;

use super::codes::Tokenizer;
use super::feeder::Feeder;
use super::generate::{Generator, Request};
use super::session::Numbers;
use super::{Console, Job, Material, RunFolder, Session, judged_weights, training_options};
use crate::config::{Conditioning, Config, Weighting};
use crate::data::Embeddings;
use crate::device::Device;
use crate::device::tuner::Table;
use crate::diffusion::Corruption;
use crate::diffusion::baseline::NeighbourModel;
use crate::diffusion::sampler::Sampler;
use crate::error::{Error, Result};
use crate::model::Scope;
use crate::model::denoiser::{self, CONTEXT, Context, Grid, Inputs};
use crate::ops;
use crate::ops::NOISE;
use crate::plan::{Options, ParamTable, Plan, Store};
use crate::report::{Colormap, Grid as Sheet, write_png};
use crate::tape::{Act, Tape};
pub use batch::noise;
use batch::{MicroBatch, Purpose};
use importance::Drawn;
use std::path::Path;
use std::sync::Arc;

/// Rows of the sample picture.
const SHOWN: usize = 8;
const GUIDANCE: f32 = 1.5;

pub struct DiffusionJob {
    config: Config,
    data: Arc<Material>,
    tokenizer: Tokenizer,
    grid: Grid,
    corruption: Corruption,
    /// Codes of every image.
    codes: Vec<u32>,
    embeddings: Option<Embeddings>,
    feeder: Feeder,
    micro_batch: MicroBatch,
    baseline: f64,
    evaluation: Option<Plan>,
    /// Opens a device for the decoder of sample pictures.
    open: Box<dyn Fn() -> Result<Box<dyn Device>>>,
    sampling: Option<Generator>,
}

impl std::fmt::Debug for DiffusionJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiffusionJob").field("grid", &self.grid).finish()
    }
}

/// The loss of a micro-batch.
struct Recorded {
    /// 1 / (tokens) sum of L_t / p_t over the samples, L_t the loss of a sample at its time and p_t the
    /// chance of that time: an estimate of the bound in nats a token, or of what else is minimised.
    loss: Act,
    /// The bound's part of each token, of a chain without the factor 1 / p_t.
    value: Act,
    /// Where the device draws the times.
    drawn: Option<Drawn>,
}

/// Records the loss of a micro-batch. Inputs are `codes`, `class`, and one number a sample of
/// `mask_probability` and `weight`, or in a chain ten of `noise`, if the device does not draw them.
fn record_loss(
    s: &mut Scope<'_>,
    config: &Config,
    grid: Grid,
    batch: usize,
    purpose: Purpose,
) -> Result<Recorded> {
    let codes = s.tape.input_idx("codes", &[batch * grid.tokens()])?;
    let class = s.tape.input_idx("class", &[batch])?;
    let factor = 1.0 / (batch * grid.tokens()) as f32;
    let settings = &config.diffusion;
    if let Corruption::Chain(chain) = Corruption::new(settings, grid.codes)? {
        let drawn = match purpose == Purpose::Training && settings.samples_by_importance() {
            true => Some(Drawn::record(s.tape, settings, &chain, batch)?),
            false => None,
        };
        let noise = match &drawn {
            Some(drawn) => drawn.noise,
            None => s.tape.input("noise", &[batch, NOISE])?,
        };
        let time = drawn.as_ref().map(|drawn| drawn.time);
        let tokens = ops::corrupt_tokens(s.tape, codes, noise, grid.tokens(), grid.codes)?;
        let inputs = Inputs { tokens, class, time };
        let logits = denoiser::logits_at(s, &config.denoiser, grid, batch, inputs)?;
        let (loss, value) =
            ops::posterior_loss(s.tape, logits, [codes, tokens], noise, [1.0; 2], factor)?;
        return Ok(Recorded { loss, value, drawn });
    }
    let masked = s.tape.input("mask_probability", &[batch])?;
    let weight = s.tape.input("weight", &[batch])?;
    let (tokens, weights) =
        ops::mask_tokens(s.tape, codes, masked, weight, grid.tokens(), grid.codes as u32)?;
    let logits = denoiser::logits(s, &config.denoiser, grid, batch, tokens, class)?;
    let (loss, value) = ops::cross_entropy(s.tape, logits, codes, weights, factor)?;
    Ok(Recorded { loss, value, drawn: None })
}

/// Records the training step.
pub fn record(
    tape: &mut Tape,
    table: &mut ParamTable,
    config: &Config,
    grid: Grid,
    batch: usize,
) -> Result<()> {
    tape.set_precision(config.train.precision);
    tape.set_recompute(config.train.recompute);
    let mut s = Scope::new(tape, table);
    let Recorded { loss, value, drawn } =
        record_loss(&mut s, config, grid, batch, Purpose::Training)?;
    let name = match config.diffusion.weighting {
        Weighting::Bound => "nats_per_token",
        Weighting::Maskgit | Weighting::Linear => "reweighted_loss",
    };
    tape.report(name, loss)?;
    tape.backward(&[(loss, 1.0)])?;
    match drawn {
        Some(drawn) => drawn.learn(tape, value, batch * config.train.lanes.max(1)),
        None => Ok(()),
    }
}

impl DiffusionJob {
    /// `codes`: of every image of the data, by `tokenizer`. Whether steps are drawn by importance is written
    /// into the settings of the run, so that it goes on as it began.
    pub fn new(
        mut config: Config,
        data: Arc<Material>,
        tokenizer: Tokenizer,
        codes: Vec<u32>,
        open: Box<dyn Fn() -> Result<Box<dyn Device>>>,
    ) -> Result<Self> {
        config.diffusion.importance = Some(config.diffusion.samples_by_importance());
        let (rows, cols) = tokenizer.grid(&data.images)?;
        let k = tokenizer.config.model.num_vq_embeddings;
        let corruption = Corruption::new(&config.diffusion, k)?;
        let (classes, times) = (data.images.classes(), corruption.times());
        let grid = Grid { rows, cols, codes: k, classes, times, context: None };
        let feeder = Feeder::new(&data, &config)?;
        let length = grid.tokens();
        let pick = |rows: &[u32]| -> Vec<u32> {
            let all = rows.iter().flat_map(|&r| &codes[r as usize * length..][..length]);
            all.copied().collect()
        };
        let model = NeighbourModel::fit(&pick(&data.split.train), length, cols, k);
        // Of the images that the bound is estimated on.
        let test = &data.split.test;
        let judged = bound::evenly(test.len(), config.diffusion.eval_images).map(|i| test[i]);
        let baseline = model.bits_per_token(&pick(&judged.collect::<Vec<_>>()), length, cols);
        Ok(DiffusionJob {
            micro_batch: MicroBatch::default(),
            config,
            data,
            tokenizer,
            grid,
            corruption,
            codes,
            embeddings: None,
            feeder,
            baseline,
            evaluation: None,
            open,
            sampling: None,
        })
    }

    /// Conditions on an embedding of each image beside its class.
    ///
    /// # Errors
    /// There are not as many as images (exit 4).
    pub fn with_embeddings(mut self, embeddings: Embeddings) -> Result<Self> {
        let embeddings = embeddings.for_images(self.data.images.n)?;
        let embeddings = match self.config.denoiser.conditioning {
            Conditioning::Pooled => embeddings.pooled(),
            Conditioning::Cross => embeddings,
        };
        self.grid.context = Some(Context { tokens: embeddings.tokens, width: embeddings.width });
        self.embeddings = Some(embeddings);
        Ok(self)
    }

    /// Compiles the training and evaluation plans on `device`.
    pub fn session(
        &mut self,
        device: Box<dyn Device>,
        folder: Option<RunFolder>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Session> {
        if self.config.data.embeddings.is_some() != self.embeddings.is_some() {
            return Err(Error::failed("the embeddings of the settings were not given to the job"));
        }
        let (mut tape, mut table) = (Tape::new(), ParamTable::default());
        record(&mut tape, &mut table, &self.config, self.grid, self.config.train.micro())?;
        let mut store = Store::new(device, table.clone(), self.config.train.seed)?;
        let options = training_options(&self.config.train);
        let plan = Plan::compile(&mut store, &tape, &options, progress)?;
        let mut tape = Tape::new();
        let mut s = Scope::new(&mut tape, &mut table);
        let Recorded { value, .. } = record_loss(
            &mut s,
            &self.config,
            self.grid,
            self.config.train.micro(),
            Purpose::Bound,
        )?;
        tape.output("loss", value)?;
        let options = Options { weights: judged_weights(&self.config.train), ..Options::default() };
        self.evaluation = Some(Plan::compile(&mut store, &tape, &options, progress)?);
        Ok(Session::new(store, plan, self.config.clone(), folder))
    }
}

impl Job for DiffusionJob {
    fn kind(&self) -> &'static str {
        "diffusion"
    }

    fn meta(&self) -> Vec<(String, String)> {
        let Grid { rows, cols, codes, classes, context, .. } = self.grid;
        let context = context.map(|c| serde_json::json!([c.tokens, c.width]).to_string());
        let grid = serde_json::json!([rows, cols, codes, classes]).to_string();
        let mut meta = vec![
            ("grid".into(), grid),
            ("class_names".into(), serde_json::json!(self.data.class_names()).to_string()),
        ];
        meta.extend(context.map(|c| (CONTEXT.into(), c)));
        meta
    }

    fn choices(&self) -> Table {
        self.sampling.as_ref().map(Generator::choices).unwrap_or_default()
    }

    fn start(&mut self, _session: &mut Session, console: &mut Console) -> Result<()> {
        console.line(&format!(
            "{} codes an image, {} classes; the neighbour model needs {:.3} bits a token",
            self.grid.tokens(),
            self.grid.classes,
            self.baseline
        ));
        if self.config.diffusion.weighting != Weighting::Bound {
            console.line(
                "diffusion.weighting: the training loss is no bound on the likelihood; the held-out \
                 bits_per_token are",
            );
        }
        Ok(())
    }

    fn feed(&mut self, store: &mut Store, plan: &Plan, step: u64, lane: usize) -> Result<()> {
        // Taken out for the call, so that it can be filled from `self`.
        let mut now = std::mem::take(&mut self.micro_batch);
        let t_min = match self.corruption {
            Corruption::Masked(_) if self.config.diffusion.discrete_steps == 0 => {
                self.config.diffusion.t_min
            }
            Corruption::Masked(_) | Corruption::Chain(_) => 0.0,
        };
        self.feeder.deal(&self.data, &self.config, (step, lane), t_min, &mut now.samples);
        let how = (&self.config.diffusion, &self.corruption, Purpose::Training);
        let written = now.write(&self.codes, self.grid.tokens(), how, store, plan);
        let written = match &self.embeddings {
            Some(embeddings) => written.and_then(|()| now.write_context(embeddings, store, plan)),
            None => written,
        };
        self.micro_batch = now;
        written
    }

    fn loss(&self, scalars: &[(String, f32)]) -> f64 {
        scalars.iter().map(|(_, v)| f64::from(*v)).sum()
    }

    fn evaluate(&mut self, store: &mut Store) -> Result<Numbers> {
        let (bits, error) = self.elbo(store)?;
        Ok(vec![
            ("bits_per_token".into(), bits),
            ("standard_error".into(), error),
            ("bits_per_dim".into(), bits * self.tokens_per_dim()),
            ("neighbour_model".into(), self.baseline),
        ])
    }

    fn best(&self) -> (&'static str, bool) {
        ("bits_per_token", false)
    }

    fn pictures(&mut self, store: &mut Store, folder: &Path, step: u64) -> Result<()> {
        let columns = self.grid.classes.clamp(1, 10);
        let mut classes: Vec<u32> =
            (0..SHOWN).flat_map(|_| (0..columns).map(|c| c as u32)).collect();
        // Embeddings are those of held-out images in turn, whose classes then are the ones to ask for.
        let held_out = self.data.split.test.iter().cycle().take(classes.len());
        let mut contexts = vec![];
        if let Some(embeddings) = &self.embeddings {
            classes = held_out.clone().map(|&r| self.data.class_of(r)).collect();
            contexts = held_out.flat_map(|&r| embeddings.row(r as usize)).copied().collect();
        }
        if self.sampling.is_none() {
            self.sampling = Some(Generator::new(
                &self.config,
                self.grid,
                classes.len(),
                &self.tokenizer,
                (self.open)()?,
            )?);
        }
        let Some(generator) = &mut self.sampling else { return Ok(()) };
        let steps = generator.default_steps(Sampler::Ancestral);
        let how = Request {
            guidance: GUIDANCE,
            seed: self.config.train.seed,
            ..Request::new(Sampler::Ancestral, steps)
        };
        generator.condition_on(contexts);
        let (_, images) = generator.generate(store, &classes, &[], &how)?;
        let shape = self.data.images.image_shape();
        let sheet = Sheet::new(SHOWN, columns, shape).scaled(2).coloured(Colormap::Perceptual);
        write_png(&folder.join(format!("gen_{step:05}.png")), &sheet.draw(&images)?)
    }
}
