//! The naive forms, and with them everything else, against values recorded from PyTorch 2.6
//! (`fixtures/ops`): outputs and gradients computed by torch in f64 on f32 inputs and rounded to
//! f32, beside the error of torch's own f32 evaluation.
//!
//! Each chain of kernels below runs in three number types:
//! * `f64`, naive: must agree with the record to its rounding, plus the f64 rounding errors (the
//!   f32 bound of [`Bounded`] scaled by the ratio of the unit roundoffs), plus what rounding the
//!   kernel's f32 parameter (eps, scale) to its neighbour would change;
//! * [`Bounded`]: derives the tolerance of every element in f32;
//! * `f32`, the cpu form: within that tolerance or four times torch's own error; the same by the WGSL
//!   form for the first case of every family.

#[macro_use]
mod chain;

use chain::{Chain, Family, Forms, Record, Results, check_family};
use vqforge::kernels::attention::{Attention, AttentionShape};
use vqforge::kernels::attention_bwd::{AttentionBwdKv, AttentionBwdQ, AttentionDelta};
use vqforge::kernels::group_norm::{GroupNorm, GroupNormShape};
use vqforge::kernels::group_norm_bwd::GroupNormBwd;
use vqforge::kernels::group_norm_bwd_sums::GroupNormBwdSums;
use vqforge::kernels::group_norm_stats::GroupNormStats;
use vqforge::kernels::layer_norm::{LayerNorm, LayerNormShape, NormMode};
use vqforge::kernels::layer_norm_bwd::{LayerNormBwd, LayerNormBwdParams};
use vqforge::kernels::norm_param_grad::NormParamGrad;
use vqforge::kernels::softmax_ce::{SoftmaxCe, SoftmaxCeBwd};
use vqforge::kernels::softmax_rows::SoftmaxRows;
use vqforge::kernels::upsample2x::{Upsample2x, Upsample2xBwd};
use vqforge::kernels::{Bounded, Real};

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
        centred: true,
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
        centred: true,
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
    let forward = f.launch(&Attention { shape: shape.clone(), causal: false }, &[&q, &k, &v], &[]);
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
