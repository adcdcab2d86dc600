//! A multilayer perceptron on handwritten digits: the engine as a user meets it. It learns, a GPU
//! computes the CPU's losses, and a run that was saved and loaded ends where a straight one does, to
//! the byte.

use crate::engine;
use crate::roundings::apart;
#[expect(dead_code, reason = "of the helpers, one is used here")]
#[path = "../src/data/testing.rs"]
mod testing;

use vqforge::config::{RateSchedule, Train};
use vqforge::data::{BatchOrder, Dataset};
use vqforge::device::Device;
use vqforge::model::Scope;
use vqforge::ops::{self, Activation};
use vqforge::plan::{Options, ParamInit, ParamTable, Plan, RING_ROWS, Store};
use vqforge::tape::{Act, Tape};
use vqforge::train::{Snapshot, optimiser, step_scalars};

const BATCH: usize = 32;
const PIXELS: usize = 784;
const HIDDEN: usize = 64;
const CLASSES: usize = 10;
/// The first thousand digits are held out.
const HELD_OUT: usize = 1000;
const STEPS: u64 = 200;

fn digits() -> Option<Dataset> {
    let path = testing::shared("data/mnist_small/mnist_10k.npz")?;
    let data = Dataset::open(path).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((data.n, data.image_len(), data.classes()), (10_000, PIXELS, CLASSES));
    Some(data)
}

fn settings() -> Train {
    Train {
        seed: 3,
        steps: STEPS,
        batch: BATCH,
        lr: 3e-3,
        warmup: 10,
        schedule: RateSchedule::Cosine,
        ..Train::default()
    }
}

fn logits(s: &mut Scope<'_>, x: Act) -> vqforge::error::Result<Act> {
    let mut layer = |name: &str, x: Act, k: usize, n: usize| {
        let mut at = s.at(name);
        let bound = ParamInit::Uniform(1.0 / (k as f32).sqrt());
        let w = at.param("weight", &[k, n], bound.clone(), true)?;
        let b = at.param("bias", &[n], bound, false)?;
        let y = ops::linear(at.tape, x, w, Some(b))?;
        if n == CLASSES { Ok(y) } else { ops::activation(at.tape, y, Activation::Relu) }
    };
    let h = layer("hidden", x, PIXELS, HIDDEN)?;
    layer("out", h, HIDDEN, CLASSES)
}

struct Mlp<'d> {
    tape: Tape,
    store: Store,
    plan: Plan,
    data: &'d Dataset,
    order: BatchOrder,
    step: u64,
}

impl<'d> Mlp<'d> {
    fn new(device: Box<dyn Device>, data: &'d Dataset) -> Self {
        Self::record(device, data).unwrap_or_else(|e| panic!("{e}"))
    }

    fn record(device: Box<dyn Device>, data: &'d Dataset) -> vqforge::error::Result<Self> {
        let (mut tape, mut table) = (Tape::new(), ParamTable::default());
        let mut s = Scope::new(&mut tape, &mut table);
        let x = s.tape.input("x", &[BATCH, PIXELS])?;
        let target = s.tape.input_idx("target", &[BATCH])?;
        let weight = s.tape.constant(&[BATCH], vec![1.0; BATCH])?;
        let logits = logits(&mut s, x)?;
        let factor = 1.0 / BATCH as f32;
        let (loss, _) = ops::cross_entropy(&mut tape, logits, target, weight, factor)?;
        tape.report("loss", loss)?;
        tape.backward(&[(loss, 1.0)])?;
        let mut store = Store::new(device, table, settings().seed)?;
        let options = Options { optimiser: Some(optimiser(&settings())), ..Options::default() };
        let plan = Plan::compile(&mut store, &tape, &options, &mut |_, _| {})?;
        let order = BatchOrder::new(data.n - HELD_OUT, BATCH, settings().seed)?;
        Ok(Mlp { tape, store, plan, data, order, step: 0 })
    }

    /// Trains up to `steps`; returns the losses of the new ones.
    fn train(&mut self, steps: u64) -> Vec<f32> {
        let labels = self.data.labels.as_ref().expect("labels");
        let mut losses = vec![];
        while self.step < steps {
            let mut rows = vec![0; BATCH];
            self.order.indices(self.step, &mut rows);
            rows.iter_mut().for_each(|r| *r += HELD_OUT as u32);
            let mut pixels = vec![0.0; BATCH * PIXELS];
            self.data.images(&rows, &mut pixels);
            let targets: Vec<u32> = rows.iter().map(|&r| labels[r as usize]).collect();
            let [x, target] = ["x", "target"].map(|name| self.plan.input(name).expect("input"));
            self.store.write_f32(x, &pixels).expect("write");
            self.store.write_u32(target, &targets).expect("write");
            let scalars = step_scalars(&settings(), self.step, 0, RING_ROWS);
            self.plan.run_lane(&mut self.store, 0, &scalars).expect("run");
            let row = self.plan.read_ring(&mut self.store, self.step..self.step + 1);
            losses.push(row.expect("ring")[0].scalars[0].1);
            self.step += 1;
        }
        losses
    }

    /// Share of the held-out digits that are recognised.
    fn accuracy(&mut self) -> f64 {
        let mut tape = Tape::new();
        let mut table = self.store.table().clone();
        let mut s = Scope::new(&mut tape, &mut table);
        let x = s.tape.input("x", &[HELD_OUT, PIXELS]).expect("input");
        let y = logits(&mut s, x).expect("model");
        tape.output("y", y).expect("output");
        let store = &mut self.store;
        let plan = Plan::compile(store, &tape, &Options::default(), &mut |_, _| {}).expect("plan");
        let rows: Vec<u32> = (0..HELD_OUT as u32).collect();
        let mut pixels = vec![0.0; HELD_OUT * PIXELS];
        self.data.images(&rows, &mut pixels);
        store.write_f32(plan.input("x").expect("input"), &pixels).expect("write");
        plan.run_lane(store, 0, &Default::default()).expect("run");
        let y = store.read_f32(plan.output("y").expect("output")).expect("read");
        let labels = self.data.labels.as_ref().expect("labels");
        let right = y.chunks_exact(CLASSES).zip(labels).filter(|(row, label)| {
            let best = (0..CLASSES).max_by(|&a, &b| row[a].total_cmp(&row[b]));
            best == Some(**label as usize)
        });
        right.count() as f64 / HELD_OUT as f64
    }

    /// The bytes of a checkpoint.
    fn saved(&mut self, scratch: &testing::Scratch, name: &str) -> Vec<u8> {
        let mut snapshot = Snapshot::capture(&mut self.store).expect("capture");
        snapshot.meta.insert("step".into(), self.step.to_string());
        snapshot.save(&scratch.path(name)).expect("save");
        std::fs::read(scratch.path(name)).expect("read")
    }
}

#[test]
fn learns_digits_and_resumes_to_the_byte() {
    let Some(data) = digits() else { return };
    let scratch = testing::Scratch::new("mlp");
    let mut straight = Mlp::new(engine::cpu(2), &data);
    let before = straight.accuracy();
    let first = straight.train(STEPS / 2);
    let middle = straight.saved(&scratch, "middle");
    let second = straight.train(STEPS);
    let end = straight.saved(&scratch, "end");
    let after = straight.accuracy();
    println!("accuracy {before:.3} -> {after:.3}, loss {} -> {}", first[0], second[99]);
    assert!(before < 0.3 && after >= 0.85, "accuracy {before} -> {after}");

    // As in another process: other threads, another store, which has already gone elsewhere.
    let mut resumed = Mlp::new(engine::cpu(1), &data);
    resumed.train(3);
    let snapshot = Snapshot::load(&scratch.path("middle")).expect("load");
    snapshot.restore(&mut resumed.store).expect("restore");
    resumed.step = snapshot.step().expect("step");
    assert_eq!(resumed.saved(&scratch, "again"), middle, "what was loaded is what was saved");
    assert_eq!(resumed.train(STEPS), second, "losses");
    assert!(resumed.saved(&scratch, "end again") == end, "the final checkpoints differ");
    assert!(middle != end);
}

#[test]
fn a_gpu_computes_the_same_losses() {
    let (Some(data), Some(gpu)) = (digits(), engine::gpu()) else { return };
    let (mut cpu, mut gpu) = (Mlp::new(engine::cpu(2), &data), Mlp::new(gpu, &data));
    for step in 1..=5 {
        // From one state, as training amplifies what rounding does.
        let state = Snapshot::capture(&mut cpu.store).expect("capture");
        state.restore(&mut gpu.store).expect("restore");
        let (a, b) = (f64::from(cpu.train(step)[0]), f64::from(gpu.train(step)[0]));
        let (relative, tolerance) = ((a - b).abs() / a, apart(&cpu.tape, "loss"));
        println!("step {step}: {a} and {b}, relative {relative:.1e} of {tolerance:.1e}");
        assert!(relative <= tolerance, "step {step}: {a} and {b}");
    }
}
