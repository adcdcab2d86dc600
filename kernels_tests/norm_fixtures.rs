//! The naive forms, and with them everything else, against values recorded from PyTorch 2.6
//! (`fixtures/ops`): outputs and gradients computed by torch in f64 on f32 inputs and rounded to
//! f32, beside the error of torch's own f32 evaluation.
//!
//! Each chain of kernels below runs in three number types:
//! * `f64`, naive: must agree with the record to its rounding, plus the f64 rounding errors (the
//!   f32 bound of [`Bounded`] scaled by the ratio of the unit roundoffs), plus what rounding the
//!   kernel's f32 parameter (eps, scale) to its neighbour would change;
//! * [`Bounded`]: derives the tolerance of every element in f32;
//! * `f32`, the cpu form: within that tolerance or four times torch's own error.

use crate::coverage::left_out;
use crate::rig::U;
use safetensors::{Dtype, SafeTensors};
use vqforge::kernels::attention::{Attention, AttentionShape};
use vqforge::kernels::attention_bwd::{AttentionBwdKv, AttentionBwdQ, AttentionDelta};
use vqforge::kernels::group_norm::{GroupNorm, GroupNormShape, GroupNormStats};
use vqforge::kernels::group_norm_bwd::{GroupNormBwd, GroupNormBwdSums};
use vqforge::kernels::layer_norm::{LayerNorm, LayerNormShape, NormMode};
use vqforge::kernels::layer_norm_bwd::{LayerNormBwd, LayerNormBwdParams};
use vqforge::kernels::norm_param_grad::NormParamGrad;
use vqforge::kernels::softmax_ce::{SoftmaxCe, SoftmaxCeBwd};
use vqforge::kernels::softmax_rows::SoftmaxRows;
use vqforge::kernels::upsample2x::{Upsample2x, Upsample2xBwd};
use vqforge::kernels::{Bind, Bounded, Io, Kernel, Real, StepScalars};
use vqforge::shader::{self, Element};

/// Unit roundoff of f64 over that of f32.
const F64_PER_F32: f64 = 1.0 / (1u64 << 29) as f64;

/// One family of recorded operations.
struct Family {
    tensors: SafeTensors<'static>,
    cases: Vec<serde_json::Value>,
}

impl Family {
    fn new(bytes: &'static [u8], json: &str) -> Self {
        let json: serde_json::Value = serde_json::from_str(json).expect("json");
        let cases = json["cases"].as_array().expect("cases").clone();
        Family { tensors: SafeTensors::deserialize(bytes).expect("safetensors"), cases }
    }
}

macro_rules! family {
    ($name:literal) => {
        Family::new(
            include_bytes!(concat!("fixtures/ops/", $name, ".safetensors")),
            include_str!(concat!("fixtures/ops/", $name, ".json")),
        )
    };
}

/// One recorded case.
#[derive(Clone, Copy)]
struct Record<'a> {
    family: &'a Family,
    json: &'a serde_json::Value,
}

impl Record<'_> {
    fn name(&self) -> &str {
        self.json["name"].as_str().expect("name")
    }
    fn param(&self, name: &str) -> f64 {
        self.json["params"][name].as_f64().expect("parameter")
    }
    fn view(&self, tensor: &str) -> safetensors::tensor::TensorView<'_> {
        let name = format!("{}.{tensor}", self.name());
        self.family.tensors.tensor(&name).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
    fn has(&self, tensor: &str) -> bool {
        self.family.tensors.tensor(&format!("{}.{tensor}", self.name())).is_ok()
    }
    fn shape(&self, tensor: &str) -> Vec<usize> {
        self.view(tensor).shape().to_vec()
    }
    fn floats(&self, tensor: &str) -> Vec<f32> {
        let view = self.view(tensor);
        assert_eq!(view.dtype(), Dtype::F32);
        view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }
    fn integers(&self, tensor: &str) -> Vec<i64> {
        let view = self.view(tensor);
        assert_eq!(view.dtype(), Dtype::I64);
        view.data().as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect()
    }
    /// [n, c, ...] -> [n, ..., c].
    fn channels_last(&self, tensor: &str) -> Vec<f32> {
        let (shape, x) = (self.shape(tensor), self.floats(tensor));
        let (n, c, rest) = (shape[0], shape[1], shape[2..].iter().product::<usize>());
        let at = |i: usize| x[(i / c / rest * c + i % c) * rest + i / c % rest];
        (0..n * c * rest).map(at).collect()
    }
    /// [b, h, l, d] -> [b, l, h, d].
    fn heads_inside(&self, tensor: &str) -> Vec<f32> {
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
struct Forms<T: 'static> {
    of: fn(f32) -> T,
    run: fn(&dyn Kernel, &mut Io<'_, T>),
    /// The f32 parameter nearest to a recorded one, or its neighbour.
    parameter: fn(f64) -> f32,
}

impl<T: Real> Forms<T> {
    fn lift(&self, x: &[f32]) -> Vec<T> {
        x.iter().map(|&x| (self.of)(x)).collect()
    }

    /// Runs a kernel on its inputs in binding order; returns its outputs in binding order.
    fn launch(&self, kernel: &dyn Kernel, floats: &[&[T]], words: &[&[u32]]) -> Vec<Vec<T>> {
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
        (self.run)(kernel, &mut io);
        outputs
    }
}

/// What a chain computed: the recorded tensor's name, its values in this project's layout, and the
/// values of the chain.
type Results<T> = Vec<(&'static str, Vec<f32>, Vec<T>)>;

/// A chain of kernels, instantiated for the number types.
struct Chain {
    f64s: fn(Record<'_>, &Forms<f64>) -> Results<f64>,
    bounded: fn(Record<'_>, &Forms<Bounded>) -> Results<Bounded>,
    f32s: fn(Record<'_>, &Forms<f32>) -> Results<f32>,
}

macro_rules! chain {
    ($f:ident) => {
        Chain { f64s: $f::<f64>, bounded: $f::<Bounded>, f32s: $f::<f32> }
    };
}

fn nearest(x: f64) -> f32 {
    x as f32
}

impl Chain {
    fn check(&self, record: Record<'_>, place: &str) {
        let naive = |parameter| {
            let run = |k: &dyn Kernel, io: &mut Io<'_, f64>| k.naive64(io);
            (self.f64s)(record, &Forms { of: f64::from, run, parameter })
        };
        let exact = naive(nearest);
        let (low, high) = (naive(|x| (x as f32).next_down()), naive(|x| (x as f32).next_up()));
        let run = |k: &dyn Kernel, io: &mut Io<'_, Bounded>| k.naive_bounded(io);
        let bounds = (self.bounded)(record, &Forms { of: Bounded::exact, run, parameter: nearest });
        let run = |k: &dyn Kernel, io: &mut Io<'_, f32>| k.cpu(io);
        let cpu = (self.f32s)(record, &Forms { of: |x| x, run, parameter: nearest });
        for (t, (tensor, want, got)) in exact.iter().enumerate() {
            let torch = record.torch_error(tensor);
            assert_eq!(want.len(), got.len(), "{place} {tensor}");
            for (i, &want) in want.iter().enumerate() {
                let want = f64::from(want);
                let bound = bounds[t].2[i].tolerance();
                let parameter = (high[t].2[i] - low[t].2[i]).abs();
                let tolerance = U * want.abs() + F64_PER_F32 * bound + parameter;
                for (form, got, tolerance) in [
                    ("naive f64", got[i], tolerance),
                    ("cpu f32", f64::from(cpu[t].2[i]), bound.max(4.0 * torch)),
                ] {
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
fn check_family(name: &str, family: &Family, chain: impl Fn(&str) -> Option<Chain>) {
    for json in &family.cases {
        let record = Record { family, json };
        let place = format!("{name}/{}", record.name());
        match (chain(record.name()), left_out(name, json)) {
            (Some(chain), false) => chain.check(record, &place),
            (None, true) => {}
            (Some(_), true) => panic!("{place} is covered and listed as not covered"),
            (None, false) => panic!("{place} is neither covered nor listed"),
        }
    }
}

fn group_norm<T: Real>(r: Record<'_>, f: &Forms<T>) -> Results<T> {
    let dims = r.shape("x");
    let shape = GroupNormShape {
        n: dims[0],
        hw: dims[2..].iter().product(),
        c: dims[1],
        groups: r.param("num_groups") as usize,
        eps: (f.parameter)(r.param("eps")),
        silu: false,
    };
    let (n, c) = (shape.n, shape.c);
    let (x, dy) = (f.lift(&r.channels_last("x")), f.lift(&r.channels_last("gy")));
    let (gamma, beta) = (f.lift(&r.floats("w")), f.lift(&r.floats("b")));
    let stats = &f.launch(&GroupNormStats { shape: shape.clone() }, &[&x], &[])[0];
    let y = f.launch(&GroupNorm { shape: shape.clone() }, &[&x, stats, &gamma, &beta], &[]);
    let inputs = [&x[..], stats, &gamma, &beta, &dy];
    let sums = &f.launch(&GroupNormBwdSums { shape: shape.clone() }, &inputs, &[])[0];
    let inputs = [&inputs[..], &[sums]].concat();
    let dx = f.launch(&GroupNormBwd { shape, accum: false }, &inputs, &[]);
    let params = f.launch(&NormParamGrad { splits: n, c, accum: false }, &[sums], &[]);
    vec![
        ("y", r.channels_last("y"), y[0].clone()),
        ("gx", r.channels_last("gx"), dx[0].clone()),
        ("gw", r.floats("gw"), params[0].clone()),
        ("gb", r.floats("gb"), params[1].clone()),
    ]
}

#[test]
fn group_norm_as_in_torch() {
    check_family("group_norm", &family!("group_norm"), |_| Some(chain!(group_norm)));
}

fn layer_norm<T: Real>(r: Record<'_>, f: &Forms<T>) -> Results<T> {
    let dims = r.shape("x");
    let c = dims[dims.len() - 1];
    let affine = r.has("w");
    let shape = LayerNormShape {
        rows: dims.iter().product::<usize>() / c,
        c,
        eps: (f.parameter)(r.param("eps")),
        mode: if affine { NormMode::Affine } else { NormMode::Plain },
    };
    let (x, dy) = (f.lift(&r.floats("x")), f.lift(&r.floats("gy")));
    let factors: Vec<Vec<T>> =
        if affine { ["w", "b"].map(|t| f.lift(&r.floats(t))).into() } else { vec![] };
    let mut inputs = vec![&x[..]];
    inputs.extend(factors.iter().map(|v| &v[..]));
    let forward = f.launch(&LayerNorm { shape: shape.clone() }, &inputs, &[]);
    let stats = &forward[1];
    let mut inputs = vec![&x[..], stats];
    inputs.extend(factors.first().map(|v| &v[..]));
    inputs.push(&dy);
    let dx = f.launch(&LayerNormBwd { shape: shape.clone(), accum: false }, &inputs, &[]);
    let mut results =
        vec![("y", r.floats("y"), forward[0].clone()), ("gx", r.floats("gx"), dx[0].clone())];
    if affine {
        let kernel = LayerNormBwdParams { shape, accum: false };
        let splits = kernel.splits();
        let sums = &f.launch(&kernel, &[&x, stats, &dy], &[])[0];
        let params = f.launch(&NormParamGrad { splits, c, accum: false }, &[sums], &[]);
        results.push(("gw", r.floats("gw"), params[0].clone()));
        results.push(("gb", r.floats("gb"), params[1].clone()));
    }
    results
}

/// m = W silu(emb[t]) + b around the modulated layer norm, straight from the formulas.
fn ada_layer_norm<T: Real>(r: Record<'_>, f: &Forms<T>) -> Results<T> {
    let [samples, length, c] = r.shape("x")[..] else { panic!("three dimensions") };
    let shape = LayerNormShape {
        rows: samples * length,
        c,
        eps: (f.parameter)(r.param("eps")),
        mode: NormMode::Modulate { rows_per_sample: length },
    };
    let [x, dy, emb, w, b] = ["x", "gy", "emb", "w", "b"].map(|t| f.lift(&r.floats(t)));
    let t = r.integers("t");
    let embedding = |s: usize, i: usize| emb[t[s] as usize * c + i];
    let silu = |v: T| v * v.sigmoid();
    let slope = |v: T| v.sigmoid() * (T::one() + v * (T::one() - v.sigmoid()));
    let mut m = vec![T::zero(); samples * 2 * c];
    for s in 0..samples {
        for o in 0..2 * c {
            for i in 0..c {
                m[s * 2 * c + o] += w[o * c + i] * silu(embedding(s, i));
            }
            m[s * 2 * c + o] += b[o];
        }
    }
    let forward = f.launch(&LayerNorm { shape: shape.clone() }, &[&x, &m], &[]);
    let stats = &forward[1];
    let kernel = LayerNormBwd { shape: shape.clone(), accum: false };
    let dx = f.launch(&kernel, &[&x, stats, &m, &dy], &[]);
    let dm = &f.launch(&LayerNormBwdParams { shape, accum: false }, &[&x, stats, &dy], &[])[0];
    let (mut dw, mut db) = (vec![T::zero(); 2 * c * c], vec![T::zero(); 2 * c]);
    let mut demb = vec![T::zero(); emb.len()];
    for s in 0..samples {
        for o in 0..2 * c {
            db[o] += dm[s * 2 * c + o];
            for i in 0..c {
                let e = embedding(s, i);
                dw[o * c + i] += dm[s * 2 * c + o] * silu(e);
                demb[t[s] as usize * c + i] += dm[s * 2 * c + o] * w[o * c + i] * slope(e);
            }
        }
    }
    vec![
        ("y", r.floats("y"), forward[0].clone()),
        ("gx", r.floats("gx"), dx[0].clone()),
        ("gw", r.floats("gw"), dw),
        ("gb", r.floats("gb"), db),
        ("gemb", r.floats("gemb"), demb),
    ]
}

#[test]
fn layer_norm_as_in_torch() {
    check_family("layer_norm", &family!("layer_norm"), |case| {
        Some(if case == "ada_layer_norm" { chain!(ada_layer_norm) } else { chain!(layer_norm) })
    });
}

fn attention<T: Real>(r: Record<'_>, f: &Forms<T>) -> Results<T> {
    let [batch, heads, lq, d] = r.shape("q")[..] else { panic!("four dimensions") };
    let (lk, scale) = (r.shape("k")[2], (f.parameter)(r.param("scale")));
    let shape = AttentionShape { batch, heads, lq, lk, d, scale };
    let [q, k, v, dy] = ["q", "k", "v", "gy"].map(|t| f.lift(&r.heads_inside(t)));
    let forward = f.launch(&Attention { shape: shape.clone() }, &[&q, &k, &v], &[]);
    let (y, lse) = (&forward[0], &forward[1]);
    let delta = &f.launch(&AttentionDelta { shape: shape.clone() }, &[y, &dy], &[])[0];
    let inputs = [&q[..], &k, &v, &dy, lse, delta];
    let dkv = f.launch(&AttentionBwdKv { shape: shape.clone() }, &inputs, &[]);
    let dq = f.launch(&AttentionBwdQ { shape }, &inputs, &[]);
    vec![
        ("y", r.heads_inside("y"), y.clone()),
        ("gq", r.heads_inside("gq"), dq[0].clone()),
        ("gk", r.heads_inside("gk"), dkv[0].clone()),
        ("gv", r.heads_inside("gv"), dkv[1].clone()),
    ]
}

#[test]
fn attention_as_in_torch() {
    check_family("attention", &family!("attention"), |case| {
        (case != "masked").then_some(chain!(attention))
    });
}

/// Rows of the reduced dimension, which is the last or else the second of three.
fn rows(r: Record<'_>, tensor: &str) -> Vec<f32> {
    if r.param("dim") == 1.0 { r.channels_last(tensor) } else { r.floats(tensor) }
}

/// Forward only: samplers take no gradient.
fn softmax<T: Real>(r: Record<'_>, f: &Forms<T>) -> Results<T> {
    let dims = r.shape("x");
    let k = if r.param("dim") == 1.0 { dims[1] } else { dims[dims.len() - 1] };
    let x = f.lift(&rows(r, "x"));
    let kernel = SoftmaxRows { rows: x.len() / k, k, log: r.name().starts_with("log_softmax") };
    vec![("y", rows(r, "y"), f.launch(&kernel, &[&x], &[]).remove(0))]
}

/// The lse of the cross-entropy.
fn logsumexp<T: Real>(r: Record<'_>, f: &Forms<T>) -> Results<T> {
    let dims = r.shape("x");
    let k = if r.param("dim") == 1.0 { dims[1] } else { dims[dims.len() - 1] };
    let x = f.lift(&rows(r, "x"));
    let n = x.len() / k;
    let outputs = f.launch(&SoftmaxCe { rows: n, k }, &[&x, &vec![T::one(); n]], &[&vec![0; n]]);
    vec![("y", r.floats("y"), outputs[1].clone())]
}

#[test]
fn softmax_as_in_torch() {
    check_family("softmax", &family!("softmax"), |case| {
        Some(if case.starts_with("logsumexp") { chain!(logsumexp) } else { chain!(softmax) })
    });
}

fn cross_entropy<T: Real>(r: Record<'_>, f: &Forms<T>) -> Results<T> {
    let dims = r.shape("x");
    let k = dims[1];
    let x = f.lift(&r.channels_last("x"));
    let n = x.len() / k;
    let ignored = |t: &i64| r.json["params"]["ignore_index"].as_i64() == Some(*t);
    let targets = r.integers("target");
    let valid = targets.iter().filter(|t| !ignored(t)).count();
    let mean = if r.name() == "sum" { T::one() } else { T::one() / T::of(valid as f64) };
    let weight: Vec<T> =
        targets.iter().map(|t| if ignored(t) { T::zero() } else { mean }).collect();
    let targets: Vec<u32> = targets.iter().map(|&t| t as u32).collect();
    let forward = f.launch(&SoftmaxCe { rows: n, k }, &[&x, &weight], &[&targets]);
    let mut loss = T::zero();
    for &l in &forward[0] {
        loss += l;
    }
    let dloss = vec![f.lift(&r.floats("gy"))[0]; n];
    let kernel = SoftmaxCeBwd { rows: n, k, accum: false };
    let dx = f.launch(&kernel, &[&x, &weight, &forward[1], &dloss], &[&targets]);
    vec![("y", r.floats("y"), vec![loss]), ("gx", r.channels_last("gx"), dx[0].clone())]
}

#[test]
fn cross_entropy_as_in_torch() {
    check_family("cross_entropy", &family!("cross_entropy"), |case| {
        ["nc", "ncl", "sum", "ignore_index"].contains(&case).then_some(chain!(cross_entropy))
    });
}

fn upsample<T: Real>(r: Record<'_>, f: &Forms<T>) -> Results<T> {
    let [n, c, h, w] = r.shape("x")[..] else { panic!("four dimensions") };
    let (x, dy) = (f.lift(&r.channels_last("x")), f.lift(&r.channels_last("gy")));
    let y = f.launch(&Upsample2x { n, h, w, c }, &[&x], &[]);
    let dx = f.launch(&Upsample2xBwd { n, h, w, c, accum: false }, &[&dy], &[]);
    vec![("y", r.channels_last("y"), y[0].clone()), ("gx", r.channels_last("gx"), dx[0].clone())]
}

#[test]
fn resampling_as_in_torch() {
    check_family("resample", &family!("resample"), |case| {
        (case == "nearest_x2").then_some(chain!(upsample))
    });
}
