//! Training steps of three models, and where their time goes:
//! `cargo bench --bench step -- [device] [model] [--steps N] [--tune] [--shapes] [--set KEY=VALUE]..`
//!
//! With `--tune` every kernel runs as the variant that is measured to be the fastest here, without it
//! as its baseline; `--shapes` adds up by kernel and sizes.
//!
//! First whole steps, of which the median is told; then steps that run one launch at a time with a
//! clock, added up by kernel. The difference of the two sums is what running alone costs: little on
//! the CPU, a submission a launch on a GPU.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use vqforge::config::Config;
use vqforge::device::tuner::{Mode, Table};
use vqforge::device::{
    self, BufferId, Device, Launch, Limits, ListId, Mark, Sample, Stats, Timer, Tuner,
};
use vqforge::error::{Error, Result};
use vqforge::kernels::{Caps, Kernel, StepScalars};
use vqforge::model::denoiser::Grid;
use vqforge::plan::{Options, ParamTable, Plan, RING_ROWS, Store};
use vqforge::rng::{Rng, Stream};
use vqforge::tape::Tape;
use vqforge::train::{autoencoder, diffusion, optimiser, step_scalars};

/// Seconds, flops and launches of a kernel.
type Row = (f64, u64, usize);

/// Rows by kernel, while single launches are clocked.
#[derive(Default)]
struct Profile(Mutex<Option<BTreeMap<String, Row>>>);

impl Profile {
    fn set(&self, rows: Option<BTreeMap<String, Row>>) -> Option<BTreeMap<String, Row>> {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(|e| e.into_inner()), rows)
    }
    fn add(&self, name: &str, seconds: f64, flops: u64) {
        if let Some(rows) = &mut *self.0.lock().unwrap_or_else(|e| e.into_inner()) {
            let row = rows.entry(name.into()).or_default();
            *row = (row.0 + seconds, row.1 + flops, row.2 + 1);
        }
    }
    fn is_on(&self) -> bool {
        self.0.lock().is_ok_and(|rows| rows.is_some())
    }
}

/// A list as a whole, and every launch of it alone.
struct Lists {
    whole: ListId,
    single: Vec<(ListId, Launch)>,
}

/// A device that can clock single launches.
struct Clocked {
    inner: Box<dyn Device>,
    lists: Vec<Lists>,
    profile: Arc<Profile>,
    /// Lines of the profile: by kernel and shape, instead of by kernel.
    shapes: bool,
}

impl Device for Clocked {
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }
    fn driver(&self) -> String {
        self.inner.driver()
    }
    fn caps(&self) -> &Caps {
        self.inner.caps()
    }
    fn limits(&self) -> Limits {
        self.inner.limits()
    }
    fn host_threads(&self) -> Option<usize> {
        self.inner.host_threads()
    }
    fn choose(&mut self, kernel: &Arc<dyn Kernel>, half_products: bool) -> Result<Arc<dyn Kernel>> {
        self.inner.choose(kernel, half_products)
    }
    fn set_tuner(&mut self, tuner: Tuner) {
        self.inner.set_tuner(tuner);
    }
    fn tuner(&self) -> Option<&Tuner> {
        self.inner.tuner()
    }
    fn timer(&self) -> Timer {
        self.inner.timer()
    }
    fn time(&mut self, list: ListId, step: &StepScalars, samples: usize) -> Result<Vec<Sample>> {
        self.inner.time(self.lists[list.0 as usize].whole, step, samples)
    }
    fn stats(&self) -> Stats {
        self.inner.stats()
    }
    fn create_buffer(&mut self, words: usize, label: &str) -> Result<BufferId> {
        self.inner.create_buffer(words, label)
    }
    fn write(&mut self, buffer: BufferId, offset: usize, words: &[u32]) -> Result<()> {
        self.inner.write(buffer, offset, words)
    }
    fn read(&mut self, buffer: BufferId, offset: usize, out: &mut [u32]) -> Result<()> {
        self.inner.read(buffer, offset, out)
    }
    fn mark(&self) -> Mark {
        self.inner.mark()
    }
    fn release(&mut self, mark: Mark) {
        self.inner.release(mark);
    }
    fn prepare(
        &mut self,
        launches: &[Launch],
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<ListId> {
        let whole = self.inner.prepare(launches, progress)?;
        let mut single = vec![];
        for launch in launches {
            let alone = std::slice::from_ref(launch);
            single.push((self.inner.prepare(alone, &mut |_, _| {})?, launch.clone()));
        }
        self.lists.push(Lists { whole, single });
        Ok(ListId(self.lists.len() as u32 - 1))
    }
    fn run(&mut self, lists: &[ListId], step: &StepScalars) -> Result<()> {
        let lists = lists.iter().map(|id| &self.lists[id.0 as usize]);
        if !self.profile.is_on() {
            let whole: Vec<ListId> = lists.map(|list| list.whole).collect();
            return self.inner.run(&whole, step);
        }
        for (id, launch) in lists.flat_map(|list| &list.single) {
            self.inner.finish()?;
            let start = Instant::now();
            self.inner.run(&[*id], step)?;
            self.inner.finish()?;
            let seconds = start.elapsed().as_secs_f64();
            let kernel = &launch.kernel;
            let name = match self.shapes {
                true => format!("{kernel:?}"),
                false => kernel.name().into(),
            };
            self.profile.add(&name, seconds, kernel.cost().flops);
        }
        Ok(())
    }
    fn clear(&mut self) {
        self.lists.clear();
        self.inner.clear();
    }
    fn finish(&mut self) -> Result<()> {
        self.inner.finish()
    }
}

/// 64 x 64 images of one channel, and grids of 16 x 16 codes out of 512.
const IMAGE: [usize; 3] = [64, 64, 1];
const GRID: Grid = Grid { rows: 16, cols: 16, codes: 512, classes: 10, times: 0, context: None };

/// Name, settings, and whether it is a denoiser.
const MODELS: [(&str, &str, bool); 3] = [
    ("radar_vqvae", include_str!("../configs/radar_vqvae.toml"), false),
    ("vqmodel", VQMODEL, false),
    ("denoiser", DENOISER, true),
];

/// 11 M parameters.
const VQMODEL: &str = r#"
[model]
family = "vqmodel"
block_out_channels = [64, 128, 256]
latent_channels = 64
num_vq_embeddings = 512
vq_embed_dim = 64
norm_num_groups = 32
mid_block_add_attention = true
[quantiser]
kind = "gradient"
[train]
batch = 16
clip = 0.0
ema_decay = 0.0
"#;

const DENOISER: &str = "
[denoiser]
layers = 6
width = 256
heads = 8
[train]
batch = 8
clip = 0.0
ema_decay = 0.0
";

struct Bench {
    config: Config,
    store: Store,
    plan: Plan,
    step: u64,
}

impl Bench {
    fn new(device: Box<dyn Device>, config: Config, denoiser: bool) -> Result<Self> {
        let (mut tape, mut table) = (Tape::new(), ParamTable::default());
        let batch = config.train.batch;
        if denoiser {
            diffusion::record(&mut tape, &mut table, &config, GRID, batch)?;
        } else {
            let [h, w, c] = IMAGE;
            autoencoder::record(&mut tape, &mut table, &config, [batch, h, w, c])?;
        }
        println!("{} parameters, batch {batch}", table.elements());
        let mut store = Store::new(device, table, config.train.seed)?;
        let options = Options { optimiser: Some(optimiser(&config.train)), ..Options::default() };
        let plan = Plan::compile(&mut store, &tape, &options, &mut |_, _| {})?;
        println!(
            "{} + {} launches, {:.1} GFLOP a step",
            plan.stats.lane_launches,
            plan.stats.update_launches,
            plan.stats.flops as f64 / 1e9
        );
        let mut bench = Bench { config, store, plan, step: 0 };
        bench.feed(denoiser)?;
        Ok(bench)
    }

    /// Inputs are written once: their transfer is not what is measured.
    fn feed(&mut self, denoiser: bool) -> Result<()> {
        let Bench { config, store, plan, .. } = self;
        let batch = config.train.batch;
        let mut rng = Rng::new(1, Stream::Test, 0);
        if denoiser {
            let mut draw = |n: usize, below: usize| -> Vec<u32> {
                (0..n).map(|_| rng.below(below as u32)).collect()
            };
            store.write_u32(plan.input("codes")?, &draw(batch * GRID.tokens(), GRID.codes))?;
            store.write_u32(plan.input("class")?, &draw(batch, GRID.classes))?;
            store.write_f32(plan.input("mask_probability")?, &vec![0.5; batch])?;
            return store.write_f32(plan.input("weight")?, &vec![2.0; batch]);
        }
        let x = plan.input("x")?;
        let pixels: Vec<f32> = (0..x.len).map(|_| rng.range(-1.0, 1.0) as f32).collect();
        store.write_f32(x, &pixels)
    }

    fn step(&mut self) -> Result<f64> {
        let scalars = step_scalars(&self.config.train, self.step, 0, RING_ROWS);
        let start = Instant::now();
        self.plan.run_lane(&mut self.store, 0, &scalars)?;
        self.store.device.finish()?;
        self.step += 1;
        Ok(start.elapsed().as_secs_f64())
    }
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// What stands behind `flag`, every time it is given.
fn values(args: &mut Vec<String>, flag: &str) -> Vec<String> {
    let mut found = vec![];
    while let Some(at) = args.iter().position(|a| a == flag) {
        found.extend(args.drain(at..(at + 2).min(args.len())).nth(1));
    }
    found
}

fn main() -> Result<()> {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let sets = values(&mut args, "--set");
    let number = |text: &String| {
        text.parse::<usize>().map_err(|e| Error::usage(format!("--steps {text}")).why(e))
    };
    let steps = values(&mut args, "--steps").last().map_or(Ok(5), number)?.max(1);
    let shapes = args.iter().any(|a| a == "--shapes");
    let tune = args.iter().any(|a| a == "--tune");
    args.retain(|a| !a.starts_with("--"));
    let name = args.first().map_or("cpu", String::as_str);
    let filter = args.get(1).map_or("", String::as_str);
    for (model, settings, denoiser) in MODELS.into_iter().filter(|m| m.0.contains(filter)) {
        let profile = Arc::new(Profile::default());
        let (inner, profile_of) = (device::open(name, 0)?, profile.clone());
        println!("{model} on {}", inner.describe());
        let mut clocked = Clocked { inner, lists: vec![], profile: profile_of, shapes };
        if tune {
            clocked.set_tuner(Tuner::new(Mode::Now, Table::default(), Box::new(|_, _, _| {})));
        }
        let config = Config::parse(model, settings, &sets)?;
        let mut bench = Bench::new(Box::new(clocked), config, denoiser)?;
        let first = bench.step()?;
        let seconds = (0..steps).map(|_| bench.step()).collect::<Result<Vec<f64>>>()?;
        let least = seconds.iter().copied().fold(f64::INFINITY, f64::min);
        let whole = median(seconds);
        let rate = bench.plan.stats.flops as f64 / whole / 1e9;
        println!(
            "a step: median {whole:.4} s of {steps}, least {least:.4}, first {first:.4}; {rate:.1} GFLOP/s"
        );

        let clocked_steps = steps.min(3);
        profile.set(Some(BTreeMap::new()));
        for _ in 0..clocked_steps {
            bench.step()?;
        }
        let mut rows: Vec<_> = profile.set(None).unwrap_or_default().into_iter().collect();
        rows.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
        let all: f64 = rows.iter().map(|r| r.1.0).sum();
        println!("launch by launch: {:.4} s", all / clocked_steps as f64);
        println!("{:24} {:>9} {:>6} {:>8} {:>9}", "", "ms", "%", "launches", "GFLOP/s");
        for (kernel, (seconds, flops, launches)) in rows {
            println!(
                "{kernel:24} {:9.2} {:6.1} {:8} {:9.1}",
                1e3 * seconds / clocked_steps as f64,
                100.0 * seconds / all,
                launches / clocked_steps,
                flops as f64 / seconds / 1e9
            );
        }
        println!();
    }
    Ok(())
}
