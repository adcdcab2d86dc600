//! The autoencoder job, VQ-VAE or KL-VAE: steps, held-out metrics, reconstruction pictures.

use super::augment::{self, augment};
use super::codes::fill_batch_with;
use super::critic::{self, Critic, HEARD};
use super::evaluation::Evaluation;
use super::monitor::Monitor;
use super::remedies::Remedies;
use super::session::Numbers;
use super::{Console, Job, Material, RunFolder, Session, Snapshot, training_options};
use crate::config::{Augment, Bottleneck, Config};
use crate::data::batches::BatchOrder;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::metrics::collapse::{TOKENS_PER_CODE, supported_codes};
use crate::model::autoencoder::{self, Pass};
use crate::model::losses::{FOREGROUND, Term, foreground_mask};
use crate::model::quantiser::{self, Book, LEVEL, of_head};
use crate::model::{Scope, discriminator, perceptual};
use crate::ops;
use crate::plan::{ParamTable, Plan, Store};
use crate::report::{Colormap, reconstruction_grid, write_png};
use crate::rng::{Rng, Stream};
use crate::tape::Tape;
use std::path::Path;
use std::sync::Arc;

/// Images in a reconstruction picture.
const SHOWN: usize = 8;

#[derive(Debug)]
pub struct AutoencoderJob {
    pub(super) config: Config,
    pub(super) data: Arc<Material>,
    order: BatchOrder,
    /// Images of the step, as rows of the data set.
    rows: Vec<u32>,
    /// The step whose rows are in `rows`.
    rows_of: Option<u64>,
    pub(super) pixels: Vec<f32>,
    pub(super) evaluation: Option<Evaluation>,
    /// Places of the latent grid: h' * w'.
    pub(super) tokens: usize,
    /// Codebooks that are searched, in the order of their heads.
    pub(super) books: Vec<Book>,
    /// Name and weight of the summands of the loss.
    weights: Vec<(String, f32)>,
    critic: Option<Critic>,
    /// Against a collapse of the codebook.
    pub remedies: Remedies,
    /// Of the codes in the last evaluation.
    pub(super) monitor: Monitor,
    /// Changes of training images.
    augment: Augment,
    /// Weights of the pixels of a lane, where the foreground counts more.
    foreground: Vec<f32>,
}

/// Records the training step for micro-batches of `batch` images.
pub fn record(
    tape: &mut Tape,
    table: &mut ParamTable,
    config: &Config,
    [batch, h, w, c]: [usize; 4],
) -> Result<Pass> {
    tape.set_precision(config.train.precision);
    tape.set_recompute(config.train.recompute);
    let mut s = Scope::new(tape, table);
    let x = s.tape.input("x", &[batch, h, w, c])?;
    let mut pass = autoencoder::training(&mut s, config, x)?;
    pass.terms.extend(perceptual::terms(&mut s, config.loss.perceptual.weight, pass.image, x)?);
    let adversarial = discriminator::generator_terms(&mut s, &config.loss.adversarial, pass.image)?;
    if !adversarial.is_empty() {
        let heard = s.tape.input(HEARD, &[1])?;
        for term in adversarial {
            let value = ops::scale_by(s.tape, term.value, heard)?;
            pass.terms.push(Term { value, ..term });
        }
        s.tape.output("image", pass.image)?;
    }
    for Term { name, value, .. } in &pass.terms {
        tape.report(name, *value)?;
    }
    for search in &pass.searches {
        tape.output(&search.book.state("z"), search.z)?;
        tape.output(&search.book.state("d2"), search.nearest.d2)?;
    }
    let weighted: Vec<_> = pass.terms.iter().map(|t| (t.value, t.weight)).collect();
    tape.backward(&weighted)?;
    quantiser::move_codebooks(tape, config, &pass.searches)?;
    Ok(pass)
}

impl AutoencoderJob {
    /// # Errors
    /// Images that the model cannot take; too few of them for a batch.
    pub fn new(config: Config, data: Arc<Material>) -> Result<Self> {
        let (model, images) = (&config.model, &data.images);
        if images.channels != model.in_channels {
            let c = images.channels;
            return Err(Error::data(format!(
                "the images have {c} channels, the model wants {}",
                model.in_channels
            ))
            .at(&images.source)
            .help(format!("--set model.in_channels={c} --set model.out_channels={c}")));
        }
        let (rows, cols) = model.latent_size(images.height, images.width)?;
        let order = BatchOrder::new(data.split.train.len(), config.train.batch, config.train.seed)?;
        let micro = config.train.micro();
        let dims = images.batch_dims(micro);
        let pass = record(&mut Tape::new(), &mut ParamTable::default(), &config, dims)?;
        Ok(AutoencoderJob {
            augment: augment::resolved(&config, images),
            rows: vec![0; config.train.batch],
            rows_of: None,
            pixels: vec![0.0; micro * data.images.image_len()],
            tokens: rows * cols,
            order,
            config,
            data,
            evaluation: None,
            books: pass.searches.into_iter().map(|s| s.book).collect(),
            weights: pass.terms.into_iter().map(|t| (t.name, t.weight)).collect(),
            critic: None,
            remedies: Remedies::default(),
            monitor: Monitor::default(),
            foreground: vec![],
        })
    }

    pub(super) fn micro(&self) -> usize {
        self.config.train.micro()
    }

    /// Places of the latent grid of an image.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// What the user should know before a run starts.
    pub fn warnings(&self) -> Vec<String> {
        let k = self.config.model.num_vq_embeddings as u64;
        let tokens = (self.data.split.train.len() * self.tokens) as u64;
        let learned = self.config.quantiser.kind.has_book();
        let enough = k * TOKENS_PER_CODE <= tokens;
        if self.config.model.bottleneck == Bottleneck::Kl || !learned || enough {
            return vec![];
        }
        vec![format!(
            "warning: {k} codes for {tokens} training tokens: fewer than {TOKENS_PER_CODE} tokens a \
             code cannot fill the codebook (help: --set model.num_vq_embeddings={})",
            supported_codes(tokens)
        )]
    }

    /// Compiles the training and evaluation plans on `device`.
    pub fn session(
        &mut self,
        device: Box<dyn Device>,
        folder: Option<RunFolder>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Session> {
        let dims = self.data.images.batch_dims(self.micro());
        let (mut tape, mut table) = (Tape::new(), ParamTable::default());
        record(&mut tape, &mut table, &self.config, dims)?;
        let critic = match self.config.loss.adversarial.weight > 0.0 {
            true => Some(critic::record(&mut table, &self.config, &dims)?),
            false => None,
        };
        if self.config.loss.perceptual.weight > 0.0 {
            self.record_features(&mut table)?;
        }
        let mut store = Store::new(device, table.clone(), self.config.train.seed)?;
        let options = training_options(&self.config.train);
        let plan = Plan::compile(&mut store, &tape, &options, progress)?;
        if let Some(tape) = critic {
            self.critic = Some(Critic::compile(&mut store, &tape, &self.config, progress)?);
        }
        let mut tape = Tape::new();
        self.record_evaluation(&mut tape, &mut table)?;
        self.compile_evaluation(&mut store, &tape, progress)?;
        Ok(Session::new(store, plan, self.config.clone(), folder))
    }

    /// A store with the weights of `snapshot` and the evaluation plan alone, for a trained model.
    pub fn evaluator(&mut self, device: Box<dyn Device>, snapshot: &Snapshot) -> Result<Store> {
        let (mut tape, mut table) = (Tape::new(), ParamTable::default());
        self.record_evaluation(&mut tape, &mut table)?;
        let mut store = Store::new(device, table, 0)?;
        snapshot.restore(&mut store)?;
        self.compile_evaluation(&mut store, &tape, &mut |_, _| {})?;
        Ok(store)
    }

    /// Metrics and reconstructions (in [0, 1]) of the held-out images, in order.
    pub fn reconstruct(&mut self, store: &mut Store) -> Result<(Numbers, Vec<f32>)> {
        let mut outputs = vec![];
        let numbers = self.measure(store, |output| outputs.extend_from_slice(output))?;
        Ok((numbers, outputs))
    }

    /// The held-out images of a picture, by their places in the held-out part: spread over it, so
    /// that several classes show.
    fn shown(&self) -> impl ExactSizeIterator<Item = usize> + use<> {
        let held_out = self.data.split.test.len();
        let n = held_out.min(SHOWN);
        (0..n).map(move |i| i * held_out / n)
    }

    /// Inputs, outputs and differences of some held-out images; `outputs` of all of them.
    pub fn picture(&self, outputs: &[f32], path: &Path) -> Result<()> {
        let len = self.data.images.image_len();
        let made: Vec<f32> =
            self.shown().flat_map(|i| &outputs[i * len..(i + 1) * len]).copied().collect();
        self.draw(&made, path)
    }

    /// As [`picture`](Self::picture), with the outputs of the images that are [shown](Self::shown).
    fn draw(&self, made: &[f32], path: &Path) -> Result<()> {
        let (data, test) = (&self.data.images, &self.data.split.test);
        let mut inputs = vec![0.0; made.len()];
        for (i, image) in self.shown().zip(inputs.chunks_exact_mut(data.image_len())) {
            data.image(test[i] as usize, image);
        }
        let (n, shape) = (self.shown().len(), data.image_shape());
        let grid = reconstruction_grid(&inputs, made, n, shape, 2, Colormap::Perceptual)?;
        write_png(path, &grid)
    }

    /// Says which residual levels the step keeps: with the set probability only the first ones, as
    /// many as a fair draw says.
    fn drop_levels(&self, store: &mut Store, plan: &Plan, step: u64) -> Result<()> {
        let q = &self.config.quantiser;
        let mut rng = Rng::new(self.config.train.seed, Stream::LevelDrop, step);
        for group in 0..q.num_codebooks {
            let kept = match rng.uniform() < q.level_dropout {
                true => 1 + (rng.uniform() * q.residual_levels as f64) as usize,
                false => q.residual_levels,
            };
            for level in 1..q.residual_levels {
                let name = of_head(LEVEL, group * q.residual_levels + level);
                store.write_f32(plan.input(&name)?, &[f32::from(level < kept)])?;
            }
        }
        Ok(())
    }
}

impl Job for AutoencoderJob {
    fn kind(&self) -> &'static str {
        match self.config.model.bottleneck {
            Bottleneck::Vq => "vqvae",
            Bottleneck::Kl => "klvae",
        }
    }

    fn meta(&self) -> Vec<(String, String)> {
        let images = &self.data.images;
        let facts = [
            ("scale".into(), serde_json::json!(images.scale).to_string()),
            ("provenance".into(), serde_json::json!(images.provenance()).to_string()),
        ];
        facts.into_iter().chain(self.remedies.meta()).collect()
    }

    fn start(&mut self, session: &mut Session, console: &mut Console) -> Result<()> {
        if self.config.loss.perceptual.weight > 0.0 {
            self.learn_features(session, console)?;
        }
        if self.books.is_empty() {
            return Ok(());
        }
        console.line("fitting the first codebook (k-means on the first latents)");
        (0..self.books.len()).try_for_each(|head| self.first_codes(session, head))
    }

    fn feed(&mut self, store: &mut Store, plan: &Plan, step: u64, lane: usize) -> Result<()> {
        if self.rows_of != Some(step) {
            self.order.indices(step, &mut self.rows);
            self.rows.iter_mut().for_each(|r| *r = self.data.split.train[*r as usize]);
            self.rows_of = Some(step);
        }
        let micro = self.micro();
        let (first, images) = (lane * micro, &self.data.images);
        let (settings, shape) = (&self.augment, images.image_shape());
        let seed = self.config.train.seed;
        let change = |place: usize, image: &mut [f32]| {
            if settings.is_on() {
                augment(settings, image, shape, &mut augment::rng(seed, step, first + place));
            }
        };
        fill_batch_with(images, &self.rows[first..first + micro], &mut self.pixels, change);
        store.write_f32(plan.input("x")?, &self.pixels)?;
        if self.config.loss.foreground > 0.0 {
            self.foreground.resize(self.pixels.len(), 0.0);
            let extra = self.config.loss.foreground as f32;
            foreground_mask(&self.pixels, images.image_len(), extra, &mut self.foreground);
            store.write_f32(plan.input(FOREGROUND)?, &self.foreground)?;
        }
        if let Some(critic) = &self.critic {
            critic.announce(store, plan, step)?;
        }
        let q = &self.config.quantiser;
        let coded = self.config.model.bottleneck == Bottleneck::Vq;
        match coded && lane == 0 && q.level_dropout > 0.0 && q.residual_levels > 1 {
            true => self.drop_levels(store, plan, step),
            false => Ok(()),
        }
    }

    fn after_lane(&mut self, store: &mut Store, plan: &Plan, step: u64, lane: usize) -> Result<()> {
        match &self.critic {
            Some(critic) => critic.learn(store, plan, &self.pixels, [step, lane as u64]),
            None => Ok(()),
        }
    }

    fn after(&mut self, store: &mut Store, plan: &Plan, step: u64) -> Result<()> {
        (0..self.books.len()).try_for_each(|head| self.look_after(store, plan, step, head))
    }

    fn loss(&self, scalars: &[(String, f32)]) -> f64 {
        let value = |name: &str| scalars.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
        let term = |(name, weight): &(String, f32)| {
            value(name).map_or(0.0, |v| f64::from(*weight) * f64::from(v))
        };
        self.weights.iter().map(term).sum()
    }

    fn evaluate(&mut self, store: &mut Store) -> Result<Numbers> {
        let numbers = self.measure(store, |_| {})?;
        self.count_training(store)?;
        Ok(numbers)
    }

    fn details(&self) -> serde_json::Value {
        self.monitored()
    }

    fn remarks(&self) -> Vec<String> {
        self.diagnoses()
    }

    fn anew(&self) -> Option<Vec<String>> {
        let remedy = if self.remedies.allowed { self.remedy() } else { None };
        remedy.map(|remedy| remedy.changes)
    }

    fn best(&self) -> (&'static str, bool) {
        ("psnr", true)
    }

    fn pictures(&mut self, store: &mut Store, folder: &Path, step: u64) -> Result<()> {
        let rows: Vec<u32> = self.shown().map(|i| self.data.split.test[i]).collect();
        let mut made = vec![];
        self.run_evaluation(store, &rows, |batch| {
            made.extend_from_slice(batch.outputs);
            Ok(())
        })?;
        self.draw(&made, &folder.join(format!("recon_{step:05}.png")))
    }
}
