//! Training on a GPU and on the CPU from one seed: each device repeats itself bit for bit, and from
//! the same state both take the same step.
//!
//! Two evaluations of one step differ by rounding, and training amplifies that without a bound. So
//! the GPU is put back to the CPU's state before every step, and what is compared is that of one
//! step: losses within the variance of their roundings ([`crate::roundings`]), and every code within
//! rounding of the nearest. Where two codes are that near, the devices may differ in the code and then
//! differ in the loss by a finite amount: such steps are told and not compared.

use crate::engine;
use crate::quantiser::{margins, within_rounding};
use crate::rig::ok;
use crate::roundings::apart;
use std::path::Path;
use std::sync::Arc;
use vqforge::config::Config;
use vqforge::data::Dataset;
use vqforge::data::split::SplitSpec;
use vqforge::data::synth::{Preset, SynthSpec, generate};
use vqforge::device::Device;
use vqforge::diffusion::{Schedule, stratified_times};
use vqforge::error::Result;
use vqforge::model::denoiser::Grid;
use vqforge::model::quantiser::CODEBOOK;
use vqforge::plan::{Options, ParamTable, Plan, Store};
use vqforge::rng::{Rng, Stream};
use vqforge::tape::Tape;
use vqforge::train::autoencoder::{AutoencoderJob, record};
use vqforge::train::session::Numbers;
use vqforge::train::{Console, Job, Material, Session, Snapshot, diffusion, optimiser};

const STEPS: u64 = 10;

type MakeJob = Box<dyn Fn(&Config) -> Box<dyn Job>>;

/// A model and its data, before there is a device.
struct Recipe {
    what: &'static str,
    config: Config,
    tape: Tape,
    table: ParamTable,
    job: MakeJob,
}

/// A run of a recipe.
struct Run {
    session: Session,
    job: Box<dyn Job>,
}

impl Run {
    fn start(recipe: &Recipe, mut device: Box<dyn Device>) -> Self {
        device.clear();
        let config = recipe.config.clone();
        let mut store = ok(Store::new(device, recipe.table.clone(), config.train.seed));
        let options = Options { optimiser: Some(optimiser(&config.train)), ..Options::default() };
        let plan = ok(Plan::compile(&mut store, &recipe.tape, &options, &mut |_, _| {}));
        let mut job = (recipe.job)(&config);
        let mut session = Session::new(store, plan, config, None);
        ok(job.start(&mut session, &mut Console::new(true)));
        Run { session, job }
    }

    /// One step; its scalars.
    fn advance(&mut self) -> Vec<(String, f32)> {
        let Session { step, .. } = self.session;
        ok(self.session.advance(&mut *self.job));
        let session = &mut self.session;
        let row = ok(session.plan.read_ring(&mut session.store, step..step + 1)).remove(0);
        assert_eq!(row.control[1], 1.0, "the step was applied");
        row.scalars
    }

    /// Losses of all steps, and bits of everything at the end.
    fn finish(mut self) -> (Vec<f64>, Vec<u32>) {
        let (mut losses, mut bits) = (vec![], vec![]);
        for _ in 0..STEPS {
            let scalars = self.advance();
            bits.extend(scalars.iter().map(|(_, v)| v.to_bits()));
            losses.push(self.job.loss(&scalars));
        }
        let snapshot = ok(Snapshot::capture(&mut self.session.store));
        bits.extend(snapshot.tensors.values().flat_map(|t| &t.data).map(|x| x.to_bits()));
        (losses, bits)
    }

    /// The codebook, if there is one.
    fn codebook(&mut self) -> Option<Vec<f32>> {
        let store = &mut self.session.store;
        let range = store.find_state(CODEBOOK).ok()?;
        Some(ok(store.read_f32(range)))
    }

    /// Latents and codes of the last step.
    fn codes(&mut self) -> (Vec<f32>, Vec<u32>) {
        let Session { plan, store, .. } = &mut self.session;
        let z = ok(store.read_f32(ok(plan.output("z"))));
        (z, ok(store.read_u32(ok(plan.output("idx")))))
    }
}

fn settings() -> Config {
    let mut config = Config::default();
    let model = &mut config.model;
    model.block_out_channels = vec![16, 32, 32];
    model.num_vq_embeddings = 64;
    config.quantiser.kmeans_iters = 2;
    config.quantiser.kmeans_samples = 512;
    let train = &mut config.train;
    (train.seed, train.batch, train.steps, train.warmup, train.lr) = (7, 8, STEPS, 2, 1e-3);
    let denoiser = &mut config.denoiser;
    (denoiser.layers, denoiser.width, denoiser.heads) = (2, 32, 2);
    config
}

fn rotors() -> Arc<Material> {
    let spec = SynthSpec {
        preset: Preset::Rotor,
        size: 32,
        n: 96,
        seed: 5,
        floor_db: None,
        classes: None,
    };
    let set = ok(generate(&spec));
    let (labels, names) = (Some(set.labels), set.class_names);
    let images = ok(Dataset::from_u8(set.pixels_u8, [spec.n, 32, 32, 1], labels, names, "rotors"));
    let split = ok(SplitSpec::Fraction { fraction: 0.25, seed: 0 }.split(&images));
    Arc::new(Material { images, split })
}

/// Grids of codes with some order in them, as a job without images.
struct Grids {
    config: Config,
    grid: Grid,
}

impl Job for Grids {
    fn kind(&self) -> &'static str {
        "diffusion"
    }
    fn feed(&mut self, store: &mut Store, plan: &Plan, step: u64, _: usize) -> Result<()> {
        let (batch, grid) = (self.config.train.batch, self.grid);
        let mut rng = Rng::new(self.config.train.seed, Stream::Test, step);
        let (mut codes, mut classes) = (vec![], vec![]);
        for _ in 0..batch {
            let class = rng.below(grid.classes as u32);
            let first = class * 20 + rng.below(12);
            codes.extend((0..grid.tokens() as u32).map(|i| (first + i / grid.cols as u32) % 64));
            classes.push(class);
        }
        let schedule = Schedule(self.config.diffusion.schedule);
        let mut times = vec![0.0; batch];
        stratified_times(rng.uniform(), batch, 0, self.config.diffusion.t_min, &mut times);
        let of = |f: &dyn Fn(f64) -> f64| times.iter().map(|&t| f(t) as f32).collect::<Vec<_>>();
        store.write_u32(plan.input("codes")?, &codes)?;
        store.write_u32(plan.input("class")?, &classes)?;
        store.write_f32(plan.input("mask_probability")?, &of(&|t| schedule.masked(t)))?;
        store.write_f32(plan.input("weight")?, &of(&|t| schedule.weight(t)))
    }
    fn loss(&self, scalars: &[(String, f32)]) -> f64 {
        scalars.iter().map(|(_, v)| f64::from(*v)).sum()
    }
    fn evaluate(&mut self, _: &mut Store) -> Result<Numbers> {
        Ok(vec![])
    }
    fn best(&self) -> (&'static str, bool) {
        ("", true)
    }
    fn pictures(&mut self, _: &mut Store, _: &Path, _: u64) -> Result<()> {
        Ok(())
    }
}

fn autoencoder() -> Recipe {
    let (config, data) = (settings(), rotors());
    let (mut tape, mut table) = (Tape::new(), ParamTable::default());
    let dims = data.images.batch_dims(config.train.batch);
    let pass = ok(record(&mut tape, &mut table, &config, dims));
    ok(tape.output("idx", pass.searches[0].nearest.idx));
    let job = move |config: &Config| -> Box<dyn Job> {
        Box::new(ok(AutoencoderJob::new(config.clone(), data.clone())))
    };
    Recipe { what: "autoencoder", config, tape, table, job: Box::new(job) }
}

fn denoiser() -> Recipe {
    let config = settings();
    let grid = Grid { rows: 8, cols: 8, codes: 64, classes: 3, times: 0, context: None };
    let (mut tape, mut table) = (Tape::new(), ParamTable::default());
    ok(diffusion::record(&mut tape, &mut table, &config, grid, config.train.batch));
    let job =
        move |config: &Config| -> Box<dyn Job> { Box::new(Grids { config: config.clone(), grid }) };
    Recipe { what: "denoiser", config, tape, table, job: Box::new(job) }
}

/// Twice on one device, on the CPU with another number of threads.
fn repeats(recipe: &Recipe) {
    let what = recipe.what;
    let run = |device| Run::start(recipe, device).finish();
    let (losses, first) = run(engine::cpu(1));
    let (_, second) = run(engine::cpu(3));
    assert!(first == second, "{what}: the CPU does not repeat itself");
    // The weights 1/t make single steps of a denoiser noisy: the best of the later ones counts.
    let later = losses[STEPS as usize / 2..].iter().copied().fold(f64::MAX, f64::min);
    assert!(later < losses[0], "{what}: ten steps lower the loss: {losses:?}");
    let Some(gpu) = engine::gpu() else { return };
    let (_, first) = run(gpu);
    let Some(gpu) = engine::gpu() else { return };
    let (_, second) = run(gpu);
    assert!(first == second, "{what}: the GPU does not repeat itself");
}

/// Every code that a run took is within rounding of the nearest; says how many `other` took otherwise.
fn flips(run: &mut Run, other: &mut Run, book: &[f32], step: u64) -> usize {
    let d = run.session.config.model.vq_embed_dim;
    let [(z, idx), (other_z, other_idx)] = [run.codes(), other.codes()];
    for (run, z, idx) in [(&*run, &z, &idx), (&*other, &other_z, &other_idx)] {
        within_rounding(run.session.store.device.kind(), z, book, idx, d);
    }
    let wide = |v: &[f32]| v.iter().copied().map(f64::from).collect::<Vec<_>>();
    let margins = margins(&wide(&z), &wide(book), d);
    let differ = (0..idx.len()).filter(|&i| idx[i] != other_idx[i]);
    differ.inspect(|&i| println!("step {step}, row {i}: margin {:.1e}", margins[i])).count()
}

/// From the CPU's state before every step.
fn steps_agree(recipe: &Recipe) {
    let Some(gpu) = engine::gpu() else { return };
    let (mut cpu, mut gpu) = (Run::start(recipe, engine::cpu(0)), Run::start(recipe, gpu));
    let (what, mut compared) = (recipe.what, 0);
    for step in 0..STEPS {
        let state = ok(Snapshot::capture(&mut cpu.session.store));
        ok(state.restore(&mut gpu.session.store));
        let book = cpu.codebook();
        let (a, b) = (cpu.advance(), gpu.advance());
        let flipped = book.map_or(0, |book| flips(&mut cpu, &mut gpu, &book, step));
        for ((name, a), (_, b)) in a.iter().zip(&b) {
            let (a, b) = (f64::from(*a), f64::from(*b));
            let (relative, tolerance) = ((a - b).abs() / a, apart(&recipe.tape, name));
            println!(
                "{what} step {step}, {name}: cpu {a:.7} gpu {b:.7}, relative {relative:.1e} of \
                 {tolerance:.1e}, {flipped} codes differ"
            );
            assert!(flipped > 0 || relative <= tolerance, "{what} step {step}, {name}");
        }
        compared += usize::from(flipped == 0);
    }
    assert!(compared as u64 > STEPS / 2, "{what}: near ties in most of the steps");
}

#[test]
fn autoencoder_repeats_itself() {
    repeats(&autoencoder());
}

#[test]
fn denoiser_repeats_itself() {
    repeats(&denoiser());
}

#[test]
fn autoencoder_steps_alike() {
    steps_agree(&autoencoder());
}

#[test]
fn denoiser_steps_alike() {
    steps_agree(&denoiser());
}
