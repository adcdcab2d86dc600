//! The tuner on the adapter under test: what it must refuse, keep, and leave alone.

use crate::device;
use std::sync::{Arc, Mutex};
use vqforge::device::Tuner;
use vqforge::device::tuner::{Choice, Mode, Table};
use vqforge::kernels::{Bind, Caps, Const, Cost, Io, Kernel, Real, grid_1d, int, wrong_binds};
use vqforge::naive_forms;

/// y = 2 x + addend, in as many rounds as it takes; its variants do one round each.
#[derive(Debug, Clone)]
struct Double {
    n: usize,
    rounds: usize,
    addend: usize,
    /// Addends of the variants: any but 0 is wrong.
    others: &'static [usize],
}

impl Double {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(x), Bind::Out(y), ..] = &mut io.binds else { wrong_binds(self.name()) };
        for (y, &x) in y.iter_mut().zip(x.iter()) {
            *y = x + x;
        }
    }
}

impl Kernel for Double {
    fn name(&self) -> &'static str {
        "double"
    }
    fn wgsl(&self) -> &'static str {
        "@group(0) @binding(0) var<storage, read> x: array<f32>;
        @group(0) @binding(1) var<storage, read_write> y: array<f32>;
        @compute @workgroup_size(64)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            var v = 0.0;
            for (var i = 0u; i < ROUNDS; i++) {
                v = v * 0.5 + x[(id.x + i) % N];
            }
            y[id.x] = 2.0 * x[id.x] + f32(ADDEND) + select(0.0, 1.0, v == 12345.0);
        }"
    }
    fn consts(&self) -> Vec<Const> {
        vec![int("ROUNDS", self.rounds), int("N", self.n), int("ADDEND", self.addend)]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.n, self.n]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.n, 64)
    }
    fn cost(&self) -> Cost {
        Cost { flops: self.n as u64, bytes: 8 * self.n as u64 }
    }
    fn variant(&self) -> String {
        match (self.rounds, self.addend) {
            (1000.., 0) => "baseline".into(),
            (_, 0) => "quick".into(),
            _ => "wrong".into(),
        }
    }
    fn variants(&self, _: &Caps) -> Vec<Arc<dyn Kernel>> {
        let quick = |&addend: &usize| -> Arc<dyn Kernel> {
            Arc::new(Double { rounds: 1, addend, ..self.clone() })
        };
        self.others.iter().map(quick).collect()
    }
    naive_forms!();
}

fn slow() -> Arc<dyn Kernel> {
    Arc::new(Double { n: 1 << 14, rounds: 2000, addend: 0, others: &[1, 0] })
}

/// Tables handed out to be kept.
fn recording() -> (Arc<Mutex<Vec<Table>>>, vqforge::device::tuner::Keep) {
    let kept = Arc::new(Mutex::new(vec![]));
    let sink = kept.clone();
    (kept, Box::new(move |table: &Table, _: &Choice, _| sink.lock().unwrap().push(table.clone())))
}

#[test]
fn the_quick_and_right_variant_wins_and_is_kept() {
    let Some(mut device) = device::own_gpu() else { return };
    let before = device.stats();
    let (kept, keep) = recording();
    device.set_tuner(Tuner::new(Mode::Now, Table::default(), keep));
    for _ in 0..2 {
        assert_eq!(device.choose(&slow(), false).unwrap().variant(), "quick");
    }
    let kept = kept.lock().unwrap();
    assert_eq!(kept.len(), 1, "measured once");
    let choice = kept[0].choices().next().unwrap();
    assert!(choice.gain > 1.0, "it was taken, so it was faster: {choice:?}");
    assert_eq!(
        (device.stats().buffers, device.stats().buffer_bytes),
        (before.buffers, before.buffer_bytes)
    );

    // The table alone decides from now on.
    device.set_tuner(Tuner::fixed(kept[0].clone()));
    let dispatches = device.stats().dispatches;
    assert_eq!(device.choose(&slow(), false).unwrap().variant(), "quick");
    assert_eq!(device.stats().dispatches, dispatches, "nothing was measured");
    assert_eq!(device.tuner().unwrap().used(), &kept[0]);
}

/// However quick it is: a variant that disagrees does not run.
#[test]
fn a_wrong_variant_is_refused() {
    let Some(mut device) = device::own_gpu() else { return };
    let (kept, keep) = recording();
    device.set_tuner(Tuner::new(Mode::Now, Table::default(), keep));
    let kernel: Arc<dyn Kernel> =
        Arc::new(Double { n: 1 << 14, rounds: 2000, addend: 0, others: &[1] });
    assert_eq!(device.choose(&kernel, false).unwrap().variant(), "baseline");
    let kept = kept.lock().unwrap();
    let choice = kept[0].choices().next().unwrap();
    assert_eq!((choice.variant.as_str(), choice.gain), ("baseline", 1.0), "it was measured");
}

#[test]
fn without_a_measurement_the_baseline_runs() {
    let Some(mut device) = device::own_gpu() else { return };
    assert_eq!(device.choose(&slow(), false).unwrap().variant(), "baseline", "the default is off");
    device.set_tuner(Tuner::fixed(Table::default()));
    assert_eq!(device.choose(&slow(), false).unwrap().variant(), "baseline");
    assert!(device.tuner().unwrap().used().is_empty());
    // A line of other shaders is no measurement of these.
    let mut stale = Table::default();
    let key = format!("double {:?}", slow());
    stale.insert(Choice { key, variant: "quick".into(), hash: "00000000".into(), gain: 9.0 });
    device.set_tuner(Tuner::fixed(stale));
    assert_eq!(device.choose(&slow(), false).unwrap().variant(), "baseline");
}
