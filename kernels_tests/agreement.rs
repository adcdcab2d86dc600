//! Training on a GPU and on the CPU from one seed: nearly the same losses, and each device repeats
//! itself bit for bit.
//!
//! Two f32 evaluations of one step differ by rounding, about 1e-7 of the loss; training amplifies
//! that, a code that flips at a near tie by a finite amount. Hence 1e-5 after one step and 1e-3 after
//! ten: far above rounding, far below any defect of an operation.

use crate::device;
use crate::quantiser::margins;
use crate::rig::ok;
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
use vqforge::model::vqvae::CODEBOOK;
use vqforge::plan::{Kind, Options, ParamTable, Plan, Store};
use vqforge::rng::{Rng, Stream};
use vqforge::tape::Tape;
use vqforge::train::session::Numbers;
use vqforge::train::vqvae::VqVaeJob;
use vqforge::train::{Console, Job, Material, Session, diffusion, optimiser, vqvae};

const STEPS: u64 = 10;

/// What ten steps left behind.
struct Trained {
    /// Loss of each step.
    losses: Vec<f64>,
    /// Bits of every reported scalar, the gradient's norm and all parameters at the end.
    bits: Vec<u32>,
    parameters: Vec<f32>,
    /// Codes and their margins, step by step.
    codes: Vec<(Vec<u32>, Vec<f64>)>,
}

fn train(session: &mut Session, job: &mut dyn Job, with_codes: bool) -> Trained {
    ok(job.start(session, &mut Console::new(true)));
    let mut codes = vec![];
    for _ in 0..STEPS {
        let book = with_codes.then(|| {
            let state = ok(session.store.find_state(CODEBOOK));
            ok(session.store.read_f32(state))
        });
        ok(session.advance(job));
        if let Some(book) = book {
            let idx = ok(session.store.read_u32(ok(session.plan.output("idx"))));
            let z = ok(session.store.read_f32(ok(session.plan.output("z"))));
            let wide = |v: Vec<f32>| v.into_iter().map(f64::from).collect::<Vec<_>>();
            let d = session.config.model.vq_embed_dim;
            codes.push((idx, margins(&wide(z), &wide(book), d)));
        }
    }
    let rows = ok(session.plan.read_ring(&mut session.store, 0..STEPS));
    let mut bits = vec![];
    let mut losses = vec![];
    for row in rows {
        assert_eq!(row.control[1], 1.0, "the step was applied");
        bits.extend(row.scalars.iter().map(|(_, v)| v.to_bits()));
        bits.push(row.control[0].to_bits());
        losses.push(job.loss(&row.scalars));
    }
    let count = session.store.table().specs().len();
    let parameters: Vec<f32> =
        (0..count).flat_map(|i| ok(session.store.read_param(Kind::Param, i))).collect();
    bits.extend(parameters.iter().map(|v| v.to_bits()));
    let states: Vec<_> = session.store.states().map(|(_, range)| range).collect();
    for range in states {
        bits.extend(ok(session.store.read_u32(range)));
    }
    Trained { losses, bits, parameters, codes }
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

/// Trains the autoencoder; returns the device for another run.
fn autoencoder(device: Box<dyn Device>, data: &Arc<Material>) -> (Trained, Box<dyn Device>) {
    let config = settings();
    let (mut tape, mut table) = (Tape::new(), ParamTable::default());
    let dims = data.images.batch_dims(config.train.batch);
    let losses = ok(vqvae::record(&mut tape, &mut table, &config, dims));
    ok(tape.output("idx", losses.nearest.idx));
    let mut job = ok(VqVaeJob::new(config.clone(), data.clone()));
    run(device, &tape, table, config, &mut job, true)
}

fn run(
    mut device: Box<dyn Device>,
    tape: &Tape,
    table: ParamTable,
    config: Config,
    job: &mut dyn Job,
    with_codes: bool,
) -> (Trained, Box<dyn Device>) {
    device.clear();
    let mut store = ok(Store::new(device, table, config.train.seed));
    let options = Options { optimiser: Some(optimiser(&config.train)), ..Options::default() };
    let plan = ok(Plan::compile(&mut store, tape, &options, &mut |_, _| {}));
    let mut session = Session::new(store, plan, config, None);
    let trained = train(&mut session, job, with_codes);
    (trained, session.store.device)
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

fn denoiser(device: Box<dyn Device>) -> (Trained, Box<dyn Device>) {
    let config = settings();
    let grid = Grid { rows: 8, cols: 8, codes: 64, classes: 3 };
    let (mut tape, mut table) = (Tape::new(), ParamTable::default());
    ok(diffusion::record(&mut tape, &mut table, &config, grid, config.train.batch));
    let mut job = Grids { config: config.clone(), grid };
    run(device, &tape, table, config, &mut job, false)
}

/// Codes that differ, with the largest margin that `cpu` saw at one.
fn flips(cpu: &Trained, gpu: &Trained, step: usize) -> (usize, f64) {
    let (Some((a, margins)), Some((b, _))) = (cpu.codes.get(step), gpu.codes.get(step)) else {
        return (0, 0.0);
    };
    let differ = (0..a.len()).filter(|&i| a[i] != b[i]);
    differ.fold((0, 0.0f64), |(n, worst), i| (n + 1, worst.max(margins[i])))
}

fn compare(what: &str, cpu: &Trained, gpu: &Trained) {
    for step in 0..STEPS as usize {
        let (a, b) = (cpu.losses[step], gpu.losses[step]);
        let relative = (a - b).abs() / a.abs();
        let (flipped, margin) = flips(cpu, gpu, step);
        println!(
            "{what} step {:2}: loss cpu {a:.7} gpu {b:.7}, relative {relative:.1e}, {flipped} codes \
             flipped (margins up to {margin:.1e})",
            step + 1
        );
        let tolerance = if step == 0 { 1e-5 } else { 1e-3 };
        assert!(relative <= tolerance, "step {}: {relative:.3e}", step + 1);
    }
    let square = |x: f64| x * x;
    let pairs = cpu.parameters.iter().zip(&gpu.parameters);
    let distance: f64 = pairs.map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    let size: f64 = cpu.parameters.iter().map(|&a| square(f64::from(a))).sum();
    println!("{what}: parameters differ by {:.1e} of their norm", (distance / size).sqrt());
    // The weights 1/t make single steps of a denoiser noisy: the best of the later ones counts.
    let later = cpu.losses[STEPS as usize / 2..].iter().copied().fold(f64::MAX, f64::min);
    assert!(later < cpu.losses[0], "ten steps lower the loss: {:?}", cpu.losses);
}

/// Twice on one device, on the CPU with another number of threads.
fn repeated(
    what: &str,
    mut train: impl FnMut(Box<dyn Device>) -> (Trained, Box<dyn Device>),
) -> [Option<Trained>; 2] {
    let (first, _) = train(device::cpu(1));
    let (second, _) = train(device::cpu(3));
    assert!(first.bits == second.bits, "{what}: the CPU does not repeat itself");
    let Some(gpu) = device::own_gpu() else { return [Some(first), None] };
    let (third, gpu) = train(gpu);
    let (fourth, _) = train(gpu);
    assert!(third.bits == fourth.bits, "{what}: the GPU does not repeat itself");
    [Some(first), Some(third)]
}

#[test]
fn autoencoder_trains_alike() {
    let data = rotors();
    let [cpu, gpu] = repeated("autoencoder", |device| autoencoder(device, &data));
    if let (Some(cpu), Some(gpu)) = (cpu, gpu) {
        compare("autoencoder", &cpu, &gpu);
    }
}

#[test]
fn denoiser_trains_alike() {
    let [cpu, gpu] = repeated("denoiser", denoiser);
    if let (Some(cpu), Some(gpu)) = (cpu, gpu) {
        compare("denoiser", &cpu, &gpu);
    }
}
