//! A tape between inputs with values and recorded results: runs it on a device and, for the bound
//! on the rounding error of every result, over `Bounded`.

use crate::device::bits;
use crate::walk::Walk;
use std::collections::BTreeMap;
use vqforge::device::Device;
use vqforge::kernels::{Bounded, Real, StepScalars};
use vqforge::model::Scope;
use vqforge::ops;
use vqforge::plan::{Kind, Options, ParamInit, ParamSpec, ParamTable, Plan, Store};
use vqforge::shape::Shape;
use vqforge::tape::{Act, Home, Idx, Param, Tape};

/// Unit roundoff of f32.
pub const U: f64 = 1.0 / (1u64 << 24) as f64;

pub fn ok<T>(result: vqforge::error::Result<T>) -> T {
    result.unwrap_or_else(|e| panic!("{e}"))
}

/// What a tape must compute: `y`, and `g<name>` for every leaf and parameter.
struct Expected {
    name: String,
    want: Vec<f32>,
    /// Error of torch's own f32 evaluation.
    torch: f64,
}

#[derive(Default)]
pub struct Rig {
    pub tape: Tape,
    table: ParamTable,
    values: Vec<Vec<f32>>,
    states: Vec<(String, Vec<f32>)>,
    expected: Vec<Expected>,
    /// The records are f32 evaluations themselves: they and ours are each within the derived bound of
    /// the exact value.
    pub recorded_in_f32: bool,
}

impl Rig {
    pub fn param(&mut self, name: &str, dims: &[usize], data: Vec<f32>) -> Param {
        let shape = ok(Shape::new(dims));
        assert_eq!(shape.elements(), data.len(), "{name}");
        let spec = ParamSpec { name: name.into(), shape, init: ParamInit::Zeros, decay: false };
        let index = ok(self.table.get_or_add(spec));
        assert_eq!(index, self.values.len(), "{name} is there twice");
        self.values.push(data);
        self.tape.param(index, shape)
    }

    /// The contents of a state that something on the tape reads.
    pub fn state(&mut self, name: &str, data: Vec<f32>) {
        self.states.push((name.into(), data));
    }

    /// To record parts of a model. Their parameters must be there already, see [`param`](Self::param).
    pub fn scope(&mut self) -> Scope<'_> {
        Scope::new(&mut self.tape, &mut self.table)
    }

    /// A differentiable input: the rows of a parameter by their own numbers. Forward that copies,
    /// and backward every row is its own sum, so that both are exact.
    pub fn leaf(&mut self, name: &str, dims: &[usize], data: Vec<f32>) -> Act {
        let shape = ok(Shape::new(dims));
        let (rows, channels) = (shape.rows(), shape.channels());
        let table = self.param(name, &[rows, channels], data);
        let own = ok(self.tape.constant_idx(&[rows], (0..rows as u32).collect()));
        let rows = ok(ops::embedding(&mut self.tape, own, table));
        ok(self.tape.reshape(rows, dims))
    }

    pub fn index(&mut self, data: Vec<u32>) -> Idx {
        ok(self.tape.constant_idx(&[data.len()], data))
    }

    /// Ends the tape: the gradient of sum(y gy) and of the weighted losses.
    pub fn finish(&mut self, y: Act, gy: Vec<f32>, losses: &[(Act, f32)]) {
        let dims = self.tape.shape(y);
        let gy = ok(self.tape.constant(dims.dims(), gy));
        ok(self.tape.add_grad(y, gy));
        ok(self.tape.backward(losses));
        ok(self.tape.output("y", y));
    }

    pub fn expect(&mut self, name: &str, want: Vec<f32>, torch: f64) {
        self.expected.push(Expected { name: name.into(), want, torch });
    }

    /// Largest share of its tolerance that any result used, and the device. The tolerance of an
    /// element is the bound on the rounding error of any f32 evaluation of its formula, or four times
    /// torch's error where that is more, and the rounding of the record.
    pub fn check(&self, mut device: Box<dyn Device>, place: &str) -> (f64, Box<dyn Device>) {
        device.clear();
        assert_eq!(
            self.table.specs().len(),
            self.values.len(),
            "{place}: a parameter has no value"
        );
        let mut store = ok(Store::new(device, self.table.clone(), 0));
        let plan = ok(Plan::compile(&mut store, &self.tape, &Options::default(), &mut |_, _| {}));
        for (i, data) in self.values.iter().enumerate() {
            ok(store.write_param(Kind::Param, i, data));
        }
        for (name, data) in &self.states {
            ok(store.write_f32(ok(store.find_state(name)), data));
        }
        ok(plan.run_lane(&mut store, 0, &StepScalars::default()));
        let bounds = self.bounds();
        let mut used = 0.0f64;
        for Expected { name, want, torch } in &self.expected {
            let got = match name.strip_prefix('g').and_then(|leaf| self.table.find(leaf)) {
                Some(i) => ok(store.read_param(Kind::Grad, i)),
                None if plan.output(name).is_ok() => ok(store.read_f32(ok(plan.output(name)))),
                None => ok(store.read_f32(ok(plan.sum(name)))),
            };
            assert_eq!((got.len(), bounds[name].len()), (want.len(), want.len()), "{place}.{name}");
            for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
                let (got, want) = (f64::from(got), f64::from(want));
                let (formula, bound) = (bounds[name][i].value(), bounds[name][i].tolerance());
                // The formula in f64 against torch in f64: the record is rounded to f32, and so is a
                // factor like 1/n; both sides have the errors of f32 scaled down to f64.
                let f64_share = if self.recorded_in_f32 { 1.0 } else { 2.0f64.powi(-29) };
                let rounding = 2.0 * U * want.abs() + (bound + 4.0 * torch) * f64_share;
                assert!(
                    (formula - want).abs() <= rounding,
                    "{place}.{name}[{i}]: the formula gives {formula}, torch {want} +- {rounding:e}"
                );
                let sides = if self.recorded_in_f32 { 2.0 } else { 1.0 };
                let tolerance = (sides * bound).max(bound + 4.0 * torch) + U * want.abs();
                assert!(tolerance.is_finite(), "{place}.{name}[{i}]: no bound");
                let error = (got - want).abs();
                assert!(
                    error <= tolerance,
                    "{place}.{name}[{i}]: {got} instead of {want}: {error:.3e} > {tolerance:.3e}"
                );
                used = used.max(error / tolerance);
            }
        }
        (used, store.device)
    }

    /// Every expected result over `Bounded`.
    fn bounds(&self) -> BTreeMap<String, Vec<Bounded>> {
        let mut walk = Walk::<Bounded>::new(&self.tape);
        for (id, value) in self.tape.values() {
            match &value.home {
                Home::Param(i) => walk.set(id, &bits(&self.values[*i])),
                Home::State(name) => {
                    let state = self.states.iter().find(|(n, _)| n == name);
                    let (_, data) = state.unwrap_or_else(|| panic!("state {name} has no value"));
                    walk.set(id, &bits(data));
                }
                _ => {}
            }
        }
        walk.run(&StepScalars::default());
        let mut named = BTreeMap::new();
        for (id, value) in self.tape.values() {
            let name = match &value.home {
                Home::Output(name) | Home::Sum(name) => name.clone(),
                Home::Grad(i) => format!("g{}", self.table.specs()[*i].name),
                _ => continue,
            };
            if walk.is_float(id) {
                named.insert(name, walk.floats(id).to_vec());
            }
        }
        named
    }
}
