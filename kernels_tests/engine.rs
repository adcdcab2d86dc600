//! What the proofs of the engine share: tiny models whose inputs are pure functions of the sample,
//! runs of them on any device, and GPU devices that are handed from test to test.

mod tangle;

use crate::device;
use std::sync::Mutex;
use tangle::{TANGLE, tangle};
use vqforge::config::{
    Bottleneck, Conditioning, Config, Denoiser, DenoiserKind, Family, FeedForward, Model, Process,
    QuantiserKind, RateSchedule, Train,
};
use vqforge::device::{BufferId, CpuDevice, Device, Launch, Limits, ListId, Mark, Stats};
use vqforge::diffusion::Corruption;
use vqforge::error::Result;
use vqforge::kernels::Caps;
use vqforge::kernels::StepScalars;
use vqforge::model::denoiser::{CONTEXT, Context, DROPPED, Grid, TIME};
use vqforge::model::quantiser::{CODEBOOK, EMA_M, EMA_N};
use vqforge::plan::{Kind, Options, ParamTable, Plan, RING_ROWS, Store};
use vqforge::rng::{Rng, Stream};
use vqforge::tape::{Home, Precision, Recompute, Tape, ValueId};
use vqforge::train::{autoencoder, diffusion, optimiser, step_scalars};

/// Samples of a step: 1, 2, 3, 4 and 6 lanes divide it.
pub const BATCH: usize = 12;
/// Side of the images.
const SIDE: usize = 8;
const CODES: usize = 7;
const CODE_LEN: usize = 3;
/// Of the chain.
const STEPS: usize = 4;
const GRID: Grid = Grid { rows: 3, cols: 4, codes: 11, classes: 3, times: 0, context: None };

/// The models under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tiny {
    /// Compact autoencoder, codebook by moving averages.
    VqVae,
    /// The same, codebook by gradient.
    VqVaeByGradient,
    /// The first VQ-VAE, with transposed convolutions.
    Classic,
    /// diffusers' VQModel with attention in the middle.
    VqModel,
    /// diffusers' AutoencoderKL.
    KlVae,
    Denoiser,
    /// The modern denoiser, which attends to embeddings.
    Modern,
    /// VQ-Diffusion's transformer in a chain, with one embedding a sample.
    VqDiffusion,
    /// Values with several consumers in every order, so that some in-place writes are granted and
    /// some refused, and parameters that are used twice.
    Tangle,
}

impl Tiny {
    pub const ALL: [Tiny; 9] = [
        Tiny::VqVae,
        Tiny::VqVaeByGradient,
        Tiny::Classic,
        Tiny::VqModel,
        Tiny::KlVae,
        Tiny::Denoiser,
        Tiny::Modern,
        Tiny::VqDiffusion,
        Tiny::Tangle,
    ];

    /// What the denoisers see.
    fn grid(self) -> Grid {
        match self {
            Tiny::Modern => Grid { context: Some(Context { tokens: 2, width: 3 }), ..GRID },
            Tiny::VqDiffusion => {
                Grid { times: STEPS, context: Some(Context { tokens: 1, width: 5 }), ..GRID }
            }
            _ => GRID,
        }
    }

    pub fn config(self, lanes: usize) -> Config {
        let mut config = Config {
            model: Model {
                block_out_channels: vec![4, 8],
                norm_num_groups: 2,
                latent_channels: 5,
                num_vq_embeddings: CODES,
                vq_embed_dim: CODE_LEN,
                ..Model::default()
            },
            denoiser: Denoiser {
                layers: 2,
                width: 12,
                heads: 3,
                mlp_ratio: 2,
                class_drop: 0.0,
                ..Denoiser::default()
            },
            train: Train {
                seed: 5,
                steps: 100,
                batch: BATCH,
                lanes,
                lr: 3e-3,
                warmup: 2,
                schedule: RateSchedule::Constant,
                ema_decay: 0.9,
                clip: 0.5,
                ..Train::default()
            },
            ..Config::default()
        };
        match self {
            Tiny::VqVaeByGradient => config.quantiser.kind = QuantiserKind::Gradient,
            // One without, so that both branches of the step's factor are walked.
            Tiny::Denoiser => config.train.clip = 0.0,
            Tiny::Modern => {
                config.denoiser.kind = DenoiserKind::Modern;
                config.denoiser.conditioning = Conditioning::Cross;
                config.denoiser.qk_norm = true;
            }
            Tiny::VqDiffusion => {
                config.denoiser.kind = DenoiserKind::VqDiffusion;
                config.denoiser.feed_forward = FeedForward::Geglu;
                config.diffusion.process = Process::MaskAndReplace;
                config.diffusion.steps = STEPS;
                // Steps are given, as all else is.
                config.diffusion.importance = Some(false);
            }
            Tiny::Classic => {
                config.model.family = Family::Classic;
                config.model.block_out_channels = vec![4, 6];
                config.model.num_residual_hiddens = 3;
            }
            Tiny::VqModel => {
                config.model.family = Family::Vqmodel;
                config.model.block_out_channels = vec![4, 4];
                config.model.mid_block_add_attention = true;
            }
            Tiny::KlVae => {
                config.model.family = Family::Vqmodel;
                config.model.bottleneck = Bottleneck::Kl;
                config.model.block_out_channels = vec![4, 4];
                config.model.latent_channels = CODE_LEN;
                config.model.mid_block_add_attention = true;
                config.kl.weight = 0.01;
            }
            _ => {}
        }
        config
    }

    /// The training step for micro-batches of `batch` samples.
    pub fn record(self, batch: usize) -> (Tape, ParamTable) {
        self.record_in(Precision::F32, batch)
    }

    pub fn record_in(self, precision: Precision, batch: usize) -> (Tape, ParamTable) {
        self.record_with(precision, Recompute::None, batch)
    }

    pub fn record_with(
        self,
        precision: Precision,
        recompute: Recompute,
        batch: usize,
    ) -> (Tape, ParamTable) {
        let (mut tape, mut table) = (Tape::new(), ParamTable::default());
        tape.set_precision(precision);
        let mut config = self.config(1);
        config.train.precision = precision;
        config.train.recompute = recompute;
        let recorded = match self {
            Tiny::Denoiser | Tiny::Modern | Tiny::VqDiffusion => {
                diffusion::record(&mut tape, &mut table, &config, self.grid(), batch)
            }
            Tiny::Tangle => tangle(&mut tape, &mut table, batch),
            _ => {
                let dims = [batch, SIDE, SIDE, 1];
                autoencoder::record(&mut tape, &mut table, &config, dims).map(drop)
            }
        };
        recorded.unwrap_or_else(|e| panic!("{self:?}: {e}"));
        (tape, table)
    }

    /// The words of every input for one sample.
    pub fn sample(self, index: u64) -> Vec<(&'static str, Vec<u32>)> {
        let mut rng = Rng::new(77, Stream::Test, index);
        let mut floats = |n: usize| -> Vec<u32> {
            (0..n).map(|_| (rng.range(-1.0, 1.0) as f32).to_bits()).collect()
        };
        match self {
            Tiny::Denoiser => {
                let t = 0.2 + 0.6 * ((index * 7 % 12) as f32 / 12.0);
                let codes = (0..GRID.tokens()).map(|_| rng.below(GRID.codes as u32)).collect();
                vec![
                    ("codes", codes),
                    ("class", vec![index as u32 % 4]),
                    ("mask_probability", vec![t.to_bits()]),
                    ("weight", vec![(1.0 / t).to_bits()]),
                ]
            }
            Tiny::Modern | Tiny::VqDiffusion => {
                let grid = self.grid();
                let dropped = index % 3 == 1;
                let mut context = vec![0; grid.context.map_or(0, |c| c.tokens * c.width)];
                if !dropped {
                    context = floats(context.len());
                }
                let codes = (0..grid.tokens()).map(|_| rng.below(grid.codes as u32)).collect();
                let t = 0.2 + 0.6 * ((index * 7 % 12) as f32 / 12.0);
                let mut all = vec![
                    ("codes", codes),
                    ("class", vec![if dropped { 3 } else { index as u32 % 3 }]),
                    (CONTEXT, context),
                    (DROPPED, vec![f32::from(u8::from(dropped)).to_bits()]),
                ];
                if grid.times == 0 {
                    all.push(("mask_probability", vec![t.to_bits()]));
                    all.push(("weight", vec![(1.0 / t).to_bits()]));
                    return all;
                }
                let settings = self.config(1).diffusion;
                let Ok(Corruption::Chain(chain)) = Corruption::new(&settings, grid.codes) else {
                    panic!("a chain")
                };
                let step = index as usize % STEPS;
                let link = chain.step(step.checked_sub(1), step);
                let noise = diffusion::noise(link, 1.0, 0.01, step == 0).words();
                all.push((TIME, vec![step as u32]));
                all.push(("noise", noise.map(f32::to_bits).to_vec()));
                all
            }
            Tiny::Tangle => vec![("x", floats(TANGLE))],
            _ => vec![("x", floats(SIDE * SIDE))],
        }
    }

    /// The words of every input for some samples in a row.
    pub fn samples(self, first: u64, count: usize) -> Vec<(&'static str, Vec<u32>)> {
        let mut all = self.sample(first);
        for index in first + 1..first + count as u64 {
            for (input, more) in all.iter_mut().zip(self.sample(index)) {
                input.1.extend(more.1);
            }
        }
        all
    }

    /// States as a run might find them: codes spread out, each with a past.
    pub fn states(self) -> Vec<(&'static str, Vec<f32>)> {
        if !matches!(self, Tiny::VqVae | Tiny::Classic | Tiny::VqModel) {
            return vec![];
        }
        let mut rng = Rng::new(78, Stream::Test, 0);
        let book: Vec<f32> = (0..CODES * CODE_LEN).map(|_| rng.normal() as f32).collect();
        let counts: Vec<f32> = (0..CODES).map(|_| rng.range(5.0, 50.0) as f32).collect();
        let sums = book.iter().enumerate().map(|(i, e)| e * counts[i / CODE_LEN]).collect();
        vec![(CODEBOOK, book), (EMA_N, counts), (EMA_M, sums)]
    }
}

/// A training run of a tiny model.
pub struct Run {
    pub tiny: Tiny,
    pub store: Store,
    pub plan: Plan,
    pub config: Config,
    pub step: u64,
}

impl Run {
    /// `options.optimiser` is filled in from the settings unless `train` is false.
    pub fn new(tiny: Tiny, device: Box<dyn Device>, train: bool, options: Options) -> Self {
        Self::new_in(Precision::F32, tiny, device, train, options)
    }

    pub fn new_in(
        precision: Precision,
        tiny: Tiny,
        device: Box<dyn Device>,
        train: bool,
        options: Options,
    ) -> Self {
        let recorded = tiny.record_in(precision, BATCH / options.lanes.max(1));
        Self::of(tiny, recorded, device, train, options)
    }

    /// A run of what was recorded of `tiny`.
    pub fn of(
        tiny: Tiny,
        (tape, table): (Tape, ParamTable),
        device: Box<dyn Device>,
        train: bool,
        options: Options,
    ) -> Self {
        let config = tiny.config(options.lanes.max(1));
        let options = Options { optimiser: train.then(|| optimiser(&config.train)), ..options };
        let mut store = Store::new(device, table, config.train.seed).expect("store");
        let plan = Plan::compile(&mut store, &tape, &options, &mut |_, _| {})
            .unwrap_or_else(|e| panic!("{tiny:?}: {e}"));
        for (name, values) in tiny.states() {
            let range = store.find_state(name).expect("state");
            store.write_f32(range, &values).expect("write");
        }
        Run { tiny, store, plan, config, step: 0 }
    }

    /// Writes `count` samples from `first` on into the inputs.
    pub fn feed(&mut self, first: u64, count: usize) {
        for (name, words) in self.tiny.samples(first, count) {
            let range = self.plan.input(name).expect("input");
            self.store.write_u32(range, &words).expect("write");
        }
    }

    /// What the next step starts from, if it is one of a single lane: the bits of parameters, states
    /// and inputs, for everything on its tape.
    pub fn sources(&mut self, tape: &Tape) -> Vec<(ValueId, Vec<u32>)> {
        let inputs = self.tiny.samples(self.step * BATCH as u64, BATCH);
        let mut all = vec![];
        for (id, value) in tape.values() {
            let bits = match &value.home {
                Home::Param(i) => self.store.read_u32(self.store.range(Kind::Param, *i)),
                Home::State(name) => {
                    self.store.find_state(name).and_then(|range| self.store.read_u32(range))
                }
                Home::Input(name) => {
                    Ok(inputs.iter().find(|(n, _)| n == name).expect("input").1.clone())
                }
                _ => continue,
            };
            all.push((id, bits.expect("read")));
        }
        all
    }

    pub fn scalars(&self, lane: usize) -> StepScalars {
        step_scalars(&self.config.train, self.step, lane, RING_ROWS)
    }

    /// All lanes of one step.
    pub fn advance(&mut self) {
        let micro = BATCH / self.plan.lanes();
        for lane in 0..self.plan.lanes() {
            self.feed(self.step * BATCH as u64 + (lane * micro) as u64, micro);
            let scalars = self.scalars(lane);
            self.plan.run_lane(&mut self.store, lane, &scalars).unwrap_or_else(|e| panic!("{e}"));
        }
        self.step += 1;
    }

    /// The bits of everything that a step changes, by name.
    pub fn bits(&mut self) -> Named {
        let mut all = vec![];
        for i in 0..self.store.table().specs().len() {
            let name = self.store.table().specs()[i].name.clone();
            for kind in [Kind::Grad, Kind::Param, Kind::M, Kind::V, Kind::Ema] {
                let range = self.store.range(kind, i);
                let words = self.store.read_u32(range).expect("read");
                all.push((format!("{} {name}", kind.name()), words));
            }
        }
        let states: Vec<_> = self.store.states().map(|(n, r)| (n.to_string(), r)).collect();
        for (name, range) in states {
            all.push((format!("state {name}"), self.store.read_u32(range).expect("read")));
        }
        all
    }
}

/// Words by name.
pub type Named = Vec<(String, Vec<u32>)>;

/// The state of a fresh run after `steps`.
pub fn after(tiny: Tiny, device: Box<dyn Device>, options: Options, steps: usize) -> Named {
    after_in(Precision::F32, tiny, device, options, steps)
}

pub fn after_in(
    precision: Precision,
    tiny: Tiny,
    device: Box<dyn Device>,
    options: Options,
    steps: usize,
) -> Named {
    let mut run = Run::new_in(precision, tiny, device, true, options);
    (0..steps).for_each(|_| run.advance());
    run.bits()
}

/// Equal names and bits, or a panic that says which and where.
#[track_caller]
pub fn assert_same(what: &str, got: &Named, want: &Named) {
    let names = |all: &Named| all.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
    assert_eq!(names(got), names(want), "{what}");
    for ((name, got), (_, want)) in got.iter().zip(want) {
        if let Err(e) = crate::compare::equal_bits(got, want) {
            panic!("{what}: {name}: {e}");
        }
    }
}

pub fn cpu(threads: usize) -> Box<dyn Device> {
    device::cpu(threads)
}

pub fn naive() -> Box<dyn Device> {
    Box::new(CpuDevice::naive().expect("CPU device"))
}

static IDLE: Mutex<Vec<Box<dyn Device>>> = Mutex::new(vec![]);

/// A GPU device of one's own. It goes back to the next test with its pipelines compiled.
pub fn gpu() -> Option<Box<dyn Device>> {
    let idle = IDLE.lock().unwrap_or_else(|e| e.into_inner()).pop();
    let device = idle.or_else(device::own_gpu)?;
    Some(Box::new(Lent(Some(device))))
}

/// Where things are proven. Nothing is held between two devices, so that a loop that takes one after
/// another takes the same one.
#[derive(Clone, Copy)]
pub struct Place {
    /// As [`Device::kind`].
    pub kind: &'static str,
    /// A device without buffers.
    pub fresh: fn() -> Box<dyn Device>,
}

/// The CPU, and a GPU if there is one.
pub fn places() -> Vec<Place> {
    let cpu = Place { kind: "cpu", fresh: || cpu(0) };
    let lent =
        gpu().map(|device| Place { kind: device.kind(), fresh: || gpu().expect("there was one") });
    std::iter::once(cpu).chain(lent).collect()
}

struct Lent(Option<Box<dyn Device>>);

impl Lent {
    fn get(&self) -> &dyn Device {
        self.0.as_deref().expect("taken on drop only")
    }
    fn get_mut(&mut self) -> &mut dyn Device {
        self.0.as_deref_mut().expect("taken on drop only")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // What failed stays with whoever broke it.
        if let Some(mut device) = self.0.take()
            && device.finish().is_ok()
            && !std::thread::panicking()
        {
            device.clear();
            IDLE.lock().unwrap_or_else(|e| e.into_inner()).push(device);
        }
    }
}

impl Device for Lent {
    fn describe(&self) -> String {
        self.get().describe()
    }
    fn kind(&self) -> &'static str {
        self.get().kind()
    }
    fn driver(&self) -> String {
        self.get().driver()
    }
    fn caps(&self) -> &Caps {
        self.get().caps()
    }
    fn mark(&self) -> Mark {
        self.get().mark()
    }
    fn release(&mut self, mark: Mark) {
        self.get_mut().release(mark);
    }
    fn limits(&self) -> Limits {
        self.get().limits()
    }
    fn stats(&self) -> Stats {
        self.get().stats()
    }
    fn create_buffer(&mut self, words: usize, label: &str) -> Result<BufferId> {
        self.get_mut().create_buffer(words, label)
    }
    fn write(&mut self, buffer: BufferId, offset: usize, words: &[u32]) -> Result<()> {
        self.get_mut().write(buffer, offset, words)
    }
    fn read(&mut self, buffer: BufferId, offset: usize, out: &mut [u32]) -> Result<()> {
        self.get_mut().read(buffer, offset, out)
    }
    fn prepare(
        &mut self,
        launches: &[Launch],
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<ListId> {
        self.get_mut().prepare(launches, progress)
    }
    fn run(&mut self, lists: &[ListId], step: &StepScalars) -> Result<()> {
        self.get_mut().run(lists, step)
    }
    fn clear(&mut self) {
        self.get_mut().clear();
    }
    fn finish(&mut self) -> Result<()> {
        self.get_mut().finish()
    }
}
