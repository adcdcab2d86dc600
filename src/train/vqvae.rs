//! The VQ-VAE job: steps, held-out metrics, reconstruction pictures.

use super::codes::fill_batch;
use super::session::Numbers;
use super::{Console, Job, Material, RunFolder, Session, Snapshot, optimiser};
use crate::config::{Config, QuantiserKind};
use crate::data::batches::BatchOrder;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::metrics::{CodeUsage, QualitySum};
use crate::model::Scope;
use crate::model::vqvae::{self, Losses};
use crate::plan::{Options, ParamTable, Plan, Store, Weights};
use crate::report::{Colormap, reconstruction_grid, write_png};
use crate::tape::Tape;
use std::path::Path;
use std::sync::Arc;

/// Images in a reconstruction picture.
const SHOWN: usize = 8;

#[derive(Debug)]
pub struct VqVaeJob {
    pub(super) config: Config,
    pub(super) data: Arc<Material>,
    order: BatchOrder,
    /// Images of the step, as rows of the data set.
    rows: Vec<u32>,
    /// The step whose rows are in `rows`.
    rows_of: Option<u64>,
    pub(super) pixels: Vec<f32>,
    evaluation: Option<Evaluation>,
    /// Codes a row of the latent grid and rows: h' * w'.
    pub(super) tokens: usize,
}

/// The evaluation plan and its buffers.
#[derive(Debug)]
struct Evaluation {
    plan: Plan,
    pixels: Vec<f32>,
}

/// Records the training step for micro-batches of `batch` images.
pub fn record(
    tape: &mut Tape,
    table: &mut ParamTable,
    config: &Config,
    [batch, h, w, c]: [usize; 4],
) -> Result<Losses> {
    let (model, kind) = (&config.model, config.quantiser.kind);
    tape.set_precision(config.train.precision);
    tape.set_recompute(config.train.recompute);
    let mut s = Scope::new(tape, table);
    let x = s.tape.input("x", &[batch, h, w, c])?;
    let losses = vqvae::training(&mut s, model, kind, x)?;
    tape.report("reconstruction", losses.reconstruction)?;
    tape.report("commitment", losses.commitment)?;
    let beta = model.commitment_cost as f32;
    let mut terms = vec![(losses.reconstruction, 1.0), (losses.commitment, beta)];
    if let Some(codebook) = losses.codebook {
        tape.report("codebook", codebook)?;
        terms.push((codebook, 1.0));
    }
    tape.output("z", losses.z)?;
    tape.output("d2", losses.nearest.d2)?;
    tape.backward(&terms)?;
    if kind == QuantiserKind::Ema {
        vqvae::move_codebook(tape, model, &config.quantiser, &losses)?;
    }
    Ok(losses)
}

impl VqVaeJob {
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
        let micro = config.train.batch / config.train.lanes.max(1);
        Ok(VqVaeJob {
            rows: vec![0; config.train.batch],
            rows_of: None,
            pixels: vec![0.0; micro * data.images.image_len()],
            tokens: rows * cols,
            order,
            config,
            data,
            evaluation: None,
        })
    }

    pub(super) fn micro(&self) -> usize {
        self.config.train.batch / self.config.train.lanes.max(1)
    }

    /// What the user should know before a run starts.
    pub fn warnings(&self) -> Vec<String> {
        let k = self.config.model.num_vq_embeddings;
        let tokens = self.data.split.train.len() * self.tokens;
        if k * 20 <= tokens {
            return vec![];
        }
        vec![format!(
            "warning: {k} codes for {tokens} training tokens: fewer than 20 tokens a code cannot \
             fill the codebook (help: --set model.num_vq_embeddings={})",
            (tokens / 20).max(2).next_power_of_two() / 2
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
        let mut store = Store::new(device, table.clone(), self.config.train.seed)?;
        let options = Options {
            optimiser: Some(optimiser(&self.config.train)),
            lanes: self.config.train.lanes,
            ..Options::default()
        };
        let plan = Plan::compile(&mut store, &tape, &options, progress)?;

        let mut tape = Tape::new();
        self.record_evaluation(&mut tape, &mut table)?;
        self.compile_evaluation(&mut store, &tape, progress)?;
        Ok(Session::new(store, plan, self.config.clone(), folder))
    }

    /// Records the evaluation pass and compiles it in `store`.
    fn compile_evaluation(
        &mut self,
        store: &mut Store,
        tape: &Tape,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<()> {
        let weights = match self.config.train.ema_decay > 0.0 {
            true => Weights::Average,
            false => Weights::Current,
        };
        let options = Options { weights, ..Options::default() };
        let plan = Plan::compile(store, tape, &options, progress)?;
        let pixels = vec![0.0; self.micro() * self.data.images.image_len()];
        self.evaluation = Some(Evaluation { plan, pixels });
        Ok(())
    }

    fn record_evaluation(&self, tape: &mut Tape, table: &mut ParamTable) -> Result<()> {
        let mut s = Scope::new(tape, table);
        let x = s.tape.input("x", &self.data.images.batch_dims(self.micro()))?;
        let (model, kind) = (&self.config.model, self.config.quantiser.kind);
        let (nearest, image) = vqvae::reconstruct(&mut s, model, kind, x)?;
        tape.output("idx", nearest.idx)?;
        tape.output("image", image)
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

    /// Metrics on the held-out images; `see` gets their reconstructions, a batch at a time.
    fn measure(&mut self, store: &mut Store, mut see: impl FnMut(&[f32])) -> Result<Numbers> {
        let data = self.data.clone();
        let mut quality = QualitySum::new(data.images.image_shape());
        let mut usage = CodeUsage::new(self.config.model.num_vq_embeddings);
        self.run_evaluation(store, &data.split.test, |target, output, codes| {
            see(output);
            quality.add(target, output);
            usage.add(codes)
        })?;
        let Some(q) = quality.mean() else { return Ok(vec![]) };
        let u = usage.summary();
        let mut numbers: Numbers = vec![("psnr".into(), q.psnr)];
        numbers.extend(q.ssim.map(|v| ("ssim".into(), v)));
        numbers.extend(q.foreground_psnr.map(|v| ("foreground_psnr".into(), v)));
        numbers.push(("codes_used".into(), u.unique as f64));
        numbers.push(("perplexity".into(), u.perplexity));
        numbers.push(("coverage".into(), u.coverage));
        Ok(numbers)
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

    /// Runs the evaluation plan over `rows`; `see(targets, outputs, codes)` gets a batch at a time,
    /// pixels in [0, 1].
    fn run_evaluation(
        &mut self,
        store: &mut Store,
        rows: &[u32],
        mut see: impl FnMut(&[f32], &[f32], &[u32]) -> Result<()>,
    ) -> Result<()> {
        let (micro, tokens) = (self.micro(), self.tokens);
        let data = &self.data.images;
        let Some(evaluation) = &mut self.evaluation else {
            return Err(Error::failed("the evaluation plan was not compiled"));
        };
        let plan = &evaluation.plan;
        let (input, image, idx) = (plan.input("x")?, plan.output("image")?, plan.output("idx")?);
        let to_unit = |v: &mut f32| *v = (*v * 0.5 + 0.5).clamp(0.0, 1.0);
        for chunk in rows.chunks(micro) {
            fill_batch(data, chunk, &mut evaluation.pixels);
            store.write_f32(input, &evaluation.pixels)?;
            plan.run_lane(store, 0, &Default::default())?;
            let mut output = store.read_f32(image)?;
            let codes = store.read_u32(idx)?;
            output.iter_mut().for_each(to_unit);
            let mut target = evaluation.pixels.clone();
            target.iter_mut().for_each(to_unit);
            let n = chunk.len() * data.image_len();
            see(&target[..n], &output[..n], &codes[..chunk.len() * tokens])?;
        }
        Ok(())
    }
}

impl Job for VqVaeJob {
    fn kind(&self) -> &'static str {
        "vqvae"
    }

    fn meta(&self) -> Vec<(String, String)> {
        vec![("scale".into(), serde_json::json!(self.data.images.scale).to_string())]
    }

    fn start(&mut self, session: &mut Session, console: &mut Console) -> Result<()> {
        if self.config.quantiser.kind != QuantiserKind::Ema {
            return Ok(());
        }
        console.line("fitting the first codebook (k-means on the first latents)");
        self.kmeans(session)
    }

    fn feed(&mut self, store: &mut Store, plan: &Plan, step: u64, lane: usize) -> Result<()> {
        if self.rows_of != Some(step) {
            self.order.indices(step, &mut self.rows);
            self.rows.iter_mut().for_each(|r| *r = self.data.split.train[*r as usize]);
            self.rows_of = Some(step);
        }
        let micro = self.micro();
        let rows = &self.rows[lane * micro..(lane + 1) * micro];
        fill_batch(&self.data.images, rows, &mut self.pixels);
        store.write_f32(plan.input("x")?, &self.pixels)
    }

    fn after(&mut self, store: &mut Store, plan: &Plan, step: u64) -> Result<()> {
        let q = &self.config.quantiser;
        let done = step + 1;
        let open = (done as f64) < q.revive_stop * self.config.train.steps as f64;
        let due = q.revive_every > 0 && done.is_multiple_of(q.revive_every) && open;
        if q.kind == QuantiserKind::Ema && due {
            self.revive(store, plan, step)?;
        }
        Ok(())
    }

    fn loss(&self, scalars: &[(String, f32)]) -> f64 {
        let beta = self.config.model.commitment_cost;
        let weight = |name: &str| if name == "commitment" { beta } else { 1.0 };
        scalars.iter().map(|(name, v)| weight(name) * f64::from(*v)).sum()
    }

    fn evaluate(&mut self, store: &mut Store) -> Result<Numbers> {
        self.measure(store, |_| {})
    }

    fn best(&self) -> (&'static str, bool) {
        ("psnr", true)
    }

    fn pictures(&mut self, store: &mut Store, folder: &Path, step: u64) -> Result<()> {
        let rows: Vec<u32> = self.shown().map(|i| self.data.split.test[i]).collect();
        let mut made = vec![];
        self.run_evaluation(store, &rows, |_, output, _| {
            made.extend_from_slice(output);
            Ok(())
        })?;
        self.draw(&made, &folder.join(format!("recon_{step:05}.png")))
    }
}
