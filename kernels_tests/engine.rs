//! What the proofs of the engine share: tiny models whose inputs are pure functions of the sample,
//! runs of them on any device, and GPU devices that are handed from test to test.

mod tangle;
mod tiny;

pub use tiny::{BATCH, Tiny};

use crate::device;
use std::sync::Mutex;
use vqforge::config::Config;
use vqforge::device::{BufferId, CpuDevice, Device, Launch, Limits, ListId, Mark, Stats};
use vqforge::error::Result;
use vqforge::kernels::Caps;
use vqforge::kernels::StepScalars;
use vqforge::plan::{Kind, Options, ParamTable, Plan, RING_ROWS, Store};
use vqforge::tape::{Home, Precision, Tape, ValueId};
use vqforge::train::{optimiser, step_scalars};

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
