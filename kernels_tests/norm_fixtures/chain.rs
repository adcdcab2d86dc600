//! Recorded cases, and chains of kernels in three number types that compute them.

use crate::coverage::left_out;
use crate::device::{self, bind, bits, floats, list, read};
use crate::rig::U;
use safetensors::{Dtype, SafeTensors};
use std::sync::Arc;
use vqforge::kernels::{Bind, Bounded, Io, Kernel, Real, StepScalars};
use vqforge::shader::{self, Element};

/// Unit roundoff of f64 over that of f32.
const F64_PER_F32: f64 = 1.0 / (1u64 << 29) as f64;

/// One family of recorded operations.
pub struct Family {
    tensors: SafeTensors<'static>,
    cases: Vec<serde_json::Value>,
}

impl Family {
    pub fn new(bytes: &'static [u8], json: &str) -> Self {
        let json: serde_json::Value = serde_json::from_str(json).expect("json");
        let cases = json["cases"].as_array().expect("cases").clone();
        Family { tensors: SafeTensors::deserialize(bytes).expect("safetensors"), cases }
    }
}

macro_rules! family {
    ($name:literal) => {
        Family::new(
            include_bytes!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/kernels_tests/fixtures/ops/",
                $name,
                ".safetensors"
            )),
            include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/kernels_tests/fixtures/ops/",
                $name,
                ".json"
            )),
        )
    };
}

/// One recorded case.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    family: &'a Family,
    pub json: &'a serde_json::Value,
}

impl Record<'_> {
    pub fn name(&self) -> &str {
        self.json["name"].as_str().expect("name")
    }
    pub fn param(&self, name: &str) -> f64 {
        self.json["params"][name].as_f64().expect("parameter")
    }
    fn view(&self, tensor: &str) -> safetensors::tensor::TensorView<'_> {
        let name = format!("{}.{tensor}", self.name());
        self.family.tensors.tensor(&name).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
    pub fn has(&self, tensor: &str) -> bool {
        self.family.tensors.tensor(&format!("{}.{tensor}", self.name())).is_ok()
    }
    pub fn shape(&self, tensor: &str) -> Vec<usize> {
        self.view(tensor).shape().to_vec()
    }
    pub fn floats(&self, tensor: &str) -> Vec<f32> {
        let view = self.view(tensor);
        assert_eq!(view.dtype(), Dtype::F32);
        view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }
    pub fn integers(&self, tensor: &str) -> Vec<i64> {
        let view = self.view(tensor);
        assert_eq!(view.dtype(), Dtype::I64);
        view.data().as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect()
    }
    /// [n, c, ...] -> [n, ..., c].
    pub fn channels_last(&self, tensor: &str) -> Vec<f32> {
        let (shape, x) = (self.shape(tensor), self.floats(tensor));
        let (n, c, rest) = (shape[0], shape[1], shape[2..].iter().product::<usize>());
        let at = |i: usize| x[(i / c / rest * c + i % c) * rest + i / c % rest];
        (0..n * c * rest).map(at).collect()
    }
    /// [b, h, l, d] -> [b, l, h, d].
    pub fn heads_inside(&self, tensor: &str) -> Vec<f32> {
        let (shape, x) = (self.shape(tensor), self.floats(tensor));
        let [b, h, l, d] = shape[..] else { panic!("{tensor}: four dimensions") };
        let at = |i: usize| {
            let (token, head, x) = (i / d / h, i / d % h, i % d);
            ((token / l * h + head) * l + token % l) * d + x
        };
        (0..b * h * l * d).map(|i| x[at(i)]).collect()
    }
    fn torch_error(&self, tensor: &str) -> f64 {
        self.json["torch_f32_maxabs_err"][tensor].as_f64().expect("recorded error")
    }
}

/// How a chain is evaluated: in numbers T, by one form of each kernel.
pub struct Forms<T: 'static> {
    of: fn(f32) -> T,
    run: fn(Arc<dyn Kernel>, &mut Io<'_, T>),
    /// The f32 parameter nearest to a recorded one, or its neighbour.
    pub parameter: fn(f64) -> f32,
}

impl<T: Real> Forms<T> {
    pub fn lift(&self, x: &[f32]) -> Vec<T> {
        x.iter().map(|&x| (self.of)(x)).collect()
    }

    /// Runs a kernel on its inputs in binding order; returns its outputs in binding order.
    pub fn launch<K: Kernel + Clone + 'static>(
        &self,
        kernel: &K,
        floats: &[&[T]],
        words: &[&[u32]],
    ) -> Vec<Vec<T>> {
        let layout = shader::build(kernel).unwrap_or_else(|e| panic!("{e}")).layout;
        let lens = kernel.lens();
        let (mut floats, mut words) = (floats.iter(), words.iter());
        let written = |i: &usize| layout.writes(*i);
        let mut outputs: Vec<Vec<T>> =
            (0..lens.len()).filter(written).map(|i| vec![T::of(f64::NAN); lens[i]]).collect();
        let mut io = Io::new(StepScalars::default());
        let mut free = outputs.iter_mut();
        for (i, &len) in lens.iter().enumerate() {
            io.binds[i] = if layout.writes(i) {
                Bind::Out(free.next().expect("output"))
            } else if layout.storage[i].element == Element::U32 {
                Bind::InU(words.next().expect("integer input"))
            } else {
                Bind::In(floats.next().expect("float input"))
            };
            let given = match &io.binds[i] {
                Bind::In(x) => x.len(),
                Bind::InU(x) => x.len(),
                _ => len,
            };
            assert_eq!(given, len, "{}: binding {i}", kernel.name());
        }
        assert!(floats.next().is_none() && words.next().is_none(), "{}: inputs", kernel.name());
        (self.run)(Arc::new(kernel.clone()), &mut io);
        outputs
    }
}

/// What a chain computed: the recorded tensor's name, its values in this project's layout, and the
/// values of the chain.
pub type Results<T> = Vec<(&'static str, Vec<f32>, Vec<T>)>;

/// A chain of kernels, instantiated for the number types.
pub struct Chain {
    pub f64s: fn(Record<'_>, &Forms<f64>) -> Results<f64>,
    pub bounded: fn(Record<'_>, &Forms<Bounded>) -> Results<Bounded>,
    pub f32s: fn(Record<'_>, &Forms<f32>) -> Results<f32>,
}

macro_rules! chain {
    ($f:ident) => {
        Chain { f64s: $f::<f64>, bounded: $f::<Bounded>, f32s: $f::<f32> }
    };
}

fn nearest(x: f64) -> f32 {
    x as f32
}

/// Uploads the bindings, launches once, reads the outputs back.
fn on_gpu(kernel: Arc<dyn Kernel>, io: &mut Io<'_, f32>) {
    let mut gpu = device::gpu().expect("there was one");
    gpu.clear();
    let words = |bind: &Bind<'_, f32>| match bind {
        Bind::In(x) => Some(bits(x)),
        Bind::Out(y) => Some(bits(y)),
        Bind::InU(x) => Some(x.to_vec()),
        Bind::OutU(y) => Some(y.to_vec()),
        Bind::None => None,
    };
    let inputs: Vec<_> = io.binds.iter().map_while(words).collect();
    let ranges = bind(&mut **gpu, &*kernel, &inputs);
    let list = list(&mut **gpu, &kernel, &ranges);
    gpu.run(&[list], &io.step).unwrap_or_else(|e| panic!("{e}"));
    for (bind, range) in io.binds.iter_mut().zip(ranges) {
        if let Bind::Out(y) = bind {
            y.copy_from_slice(&floats(&read(&mut **gpu, range)));
        }
    }
}

impl Chain {
    fn check(&self, record: Record<'_>, place: &str, gpu: bool) {
        let naive = |parameter| {
            let run = |k: Arc<dyn Kernel>, io: &mut Io<'_, f64>| k.naive64(io);
            (self.f64s)(record, &Forms { of: f64::from, run, parameter })
        };
        let exact = naive(nearest);
        let (low, high) = (naive(|x| (x as f32).next_down()), naive(|x| (x as f32).next_up()));
        let run = |k: Arc<dyn Kernel>, io: &mut Io<'_, Bounded>| k.naive_bounded(io);
        let bounds = (self.bounded)(record, &Forms { of: Bounded::exact, run, parameter: nearest });
        let run = |k: Arc<dyn Kernel>, io: &mut Io<'_, f32>| k.cpu(io);
        let cpu = (self.f32s)(record, &Forms { of: |x| x, run, parameter: nearest });
        let forms = Forms { of: |x| x, run: on_gpu, parameter: nearest };
        let gpu = gpu.then(|| (self.f32s)(record, &forms));
        for (t, (tensor, want, got)) in exact.iter().enumerate() {
            let torch = record.torch_error(tensor);
            assert_eq!(want.len(), got.len(), "{place} {tensor}");
            for (i, &want) in want.iter().enumerate() {
                let want = f64::from(want);
                let bound = bounds[t].2[i].tolerance();
                let parameter = (high[t].2[i] - low[t].2[i]).abs();
                let tolerance = U * want.abs() + F64_PER_F32 * bound + parameter;
                let ours = bound.max(4.0 * torch);
                assert!(ours.is_finite(), "{place}, {tensor}[{i}]: no bound");
                let gpu = gpu.as_ref().map(|gpu| ("wgsl f32", gpu[t].2[i].into(), ours));
                let forms =
                    [("naive f64", got[i], tolerance), ("cpu f32", cpu[t].2[i].into(), ours)];
                for (form, got, tolerance) in forms.into_iter().chain(gpu) {
                    let error = (got - want).abs();
                    assert!(
                        error <= tolerance,
                        "{place}, {form}, {tensor}[{i}]: {got} instead of {want}: {error:.3e} > {tolerance:.3e}"
                    );
                }
            }
        }
    }
}

/// Runs every case of a family that `chain` has a chain for; the others are accounted for.
pub fn check_family(name: &str, family: &Family, chain: impl Fn(&str) -> Option<Chain>) {
    let mut gpu = device::gpu().is_some();
    for json in &family.cases {
        let record = Record { family, json };
        let place = format!("{name}/{}", record.name());
        match (chain(record.name()), left_out(name, json)) {
            (Some(chain), false) => {
                chain.check(record, &place, gpu);
                gpu = false;
            }
            (None, true) => {}
            (Some(_), true) => panic!("{place} is covered and listed as not covered"),
            (None, false) => panic!("{place} is neither covered nor listed"),
        }
    }
}
