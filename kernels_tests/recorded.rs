//! Autoencoders of diffusers, imported, against values recorded from PyTorch: what the comparisons of
//! both classes share.
//!
//! Torch evaluated in f64 on the same f32 weights; `fixture_meta.json` holds the error of its own f32
//! evaluation. An element may differ from the record by 4 times that, or by the bound of
//! [`crate::roundings`] where that is more.
//! Where exact cancellation makes the true tensor zero (the gradient of a key's bias: softmax does
//! not see it), the size is that of its sibling's terms: the weight's gradient.

use crate::fixtures::Fixture;
use crate::rig::{U, ok};
use crate::roundings::{DEVIATIONS, roundings};
use serde_json::Value;
use std::path::{Path, PathBuf};
use vqforge::device::Device;
use vqforge::interop::diffusers::Autoencoder;
use vqforge::kernels::StepScalars;
use vqforge::model::Scope;
use vqforge::model::quantiser::CODEBOOK_PARAM;
use vqforge::plan::{Kind, Options, ParamTable, Plan, Store};
use vqforge::tape::{Home, Tape, ValueId};

pub fn rms(x: &[f32]) -> f64 {
    (x.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / x.len() as f64).sqrt()
}

/// What was compared, and how much of which tolerance it used.
#[derive(Default)]
pub struct Shares {
    /// Of the tolerance; of the derived bound alone; name of the tensor that came closest.
    used: f64,
    derived: f64,
    name: String,
}

impl Shares {
    pub fn compare(&mut self, name: &str, got: &[f32], want: &[f32], torch: f64, derived: f64) {
        assert_eq!(got.len(), want.len(), "{name}");
        let tolerance = torch.max(derived);
        let mut worst = 0.0f64;
        for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
            let error = (f64::from(g) - f64::from(w)).abs();
            assert!(
                error <= tolerance,
                "{name}[{i}]: {g} instead of {w}: {error:.3e} > {tolerance:.3e} \
                 (4 x torch {torch:.1e}, derived {derived:.1e})"
            );
            worst = worst.max(error);
        }
        if worst / tolerance >= self.used {
            (self.used, self.name) = (worst / tolerance, name.into());
        }
        self.derived = self.derived.max(worst / derived);
    }

    pub fn report(&self, label: &str, what: &str) {
        println!(
            "{label}: {what}: at most {:.3} of the tolerance ({}), {:.3} of the derived bound",
            self.used, self.name, self.derived
        );
    }
}

/// A recorded model folder.
pub struct Recorded {
    folder: PathBuf,
    pub model: Autoencoder,
    pub io: Fixture,
    pub grads: Fixture,
    pub meta: Value,
    /// Images [n, h, w, c].
    pub dims: [usize; 4],
}

impl Recorded {
    pub fn open(folder: &Path) -> Self {
        let file = |name: &str| Fixture::open(&folder.join(format!("{name}.safetensors")));
        let text = std::fs::read_to_string(folder.join("fixture_meta.json")).expect("meta");
        let io = file("fixture_io");
        let [n, c, h, w] = io.shape("input")[..] else { panic!("images have four dimensions") };
        Recorded {
            folder: folder.into(),
            model: ok(Autoencoder::read(folder)),
            io,
            grads: file("fixture_grads"),
            meta: serde_json::from_str(&text).expect("json"),
            dims: [n, h, w, c],
        }
    }

    /// Another record of the folder.
    pub fn file(&self, name: &str) -> Fixture {
        Fixture::open(&self.folder.join(format!("{name}.safetensors")))
    }

    /// 4 times the error of torch in f32.
    pub fn torch(&self, tensor: &str) -> f64 {
        4.0 * self.meta["torch_f32_err"][tensor].as_f64().expect("a recorded error")
    }
}

/// A compiled training pass without an optimiser.
pub struct Pass {
    pub tape: Tape,
    pub store: Store,
    pub plan: Plan,
}

impl Pass {
    /// Compiles what `record` records, loads the model's weights, writes the named inputs and runs.
    pub fn run(
        device: Box<dyn Device>,
        model: &Autoencoder,
        record: impl FnOnce(&mut Scope<'_>),
        inputs: &[(&str, &[f32])],
    ) -> Self {
        let (mut tape, mut table) = (Tape::new(), ParamTable::default());
        record(&mut Scope::new(&mut tape, &mut table));
        let mut store = ok(Store::new(device, table, 0));
        let plan = ok(Plan::compile(&mut store, &tape, &Options::default(), &mut |_, _| {}));
        ok(model.load_into(&mut store));
        for (name, data) in inputs {
            ok(store.write_f32(ok(plan.input(name)), data));
        }
        ok(plan.run_lane(&mut store, 0, &StepScalars::default()));
        Pass { tape, store, plan }
    }

    pub fn value(&self, wanted: impl Fn(&Home) -> bool) -> ValueId {
        self.tape.values().find(|(_, v)| wanted(&v.home)).expect("a value").0
    }

    pub fn output(&mut self, name: &str) -> Vec<f32> {
        let range = ok(self.plan.output(name));
        ok(self.store.read_f32(range))
    }

    pub fn sum(&mut self, name: &str) -> f32 {
        let range = ok(self.plan.sum(name));
        ok(self.store.read_f32(range))[0]
    }

    /// As many standard deviations, relative to the size of the tensor.
    pub fn relative(&self, value: ValueId) -> f64 {
        DEVIATIONS * U * roundings(&self.tape, value).sqrt()
    }

    pub fn relative_of_output(&self, name: &str) -> f64 {
        self.relative(self.value(|h| *h == Home::Output(name.into())))
    }

    /// Relative error of the sum `name`, a mean of n squares: independent relative errors of 2 sigma
    /// each shrink by sqrt n, and the sum and its factor round a few times more.
    pub fn relative_of_mean(&self, name: &str, n: usize) -> f64 {
        let squares = self.value(|h| *h == Home::Sum(name.into()));
        2.0 * self.relative(squares) / (n as f64).sqrt() + 4.0 * U
    }

    /// The device, cleared.
    pub fn device(self) -> Box<dyn Device> {
        let mut device = self.store.device;
        device.clear();
        device
    }
}

/// A recorded parameter or gradient in our layout.
pub fn ours(fixture: &Fixture, name: &str) -> Vec<f32> {
    // The codebook is [K, d] on both sides.
    if name.ends_with(CODEBOOK_PARAM) { fixture.f32(name) } else { fixture.weights(name) }
}

/// Compares the gradient of every parameter with `want(name)`, in our layout; those of which it knows
/// nothing are left out.
pub fn gradients(
    pass: &mut Pass,
    recorded: &Recorded,
    want: impl Fn(&str) -> Option<Vec<f32>>,
) -> Shares {
    let mut shares = Shares::default();
    let torch = recorded.meta["grad_rel_err_f32"].as_f64().expect("a recorded error");
    let specs = pass.store.table().specs().to_vec();
    assert_eq!(specs.len(), recorded.model.tensors.len());
    for (i, spec) in specs.iter().enumerate() {
        let relative = pass.relative(pass.value(|h| *h == Home::Grad(i)));
        let Some(want) = want(&spec.name) else { continue };
        let (size, largest) = match spec.name.strip_suffix("to_k.bias") {
            Some(block) => {
                let weight = recorded.grads.f32(&format!("{block}to_k.weight"));
                (rms(&weight), 0.0)
            }
            None => (rms(&want), want.iter().fold(0.0f32, |a, v| a.max(v.abs()))),
        };
        let got = ok(pass.store.read_param(Kind::Grad, i));
        let torch = 4.0 * torch * f64::from(largest);
        shares.compare(&spec.name, &got, &want, torch, relative * size);
    }
    shares
}
