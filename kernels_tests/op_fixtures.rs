//! Operations on a tape, forward and backward, against values recorded from PyTorch 2.6
//! (`fixtures/ops`): computed by torch in f64 on f32 inputs and rounded to f32. Layouts are changed
//! here: images are recorded as NCHW, weights as [out, in, ..].
//!
//! The tolerance of every element is derived: see [`Rig::check`]. Every recorded case of every
//! family is computed here, or by a test that [`ELSEWHERE`] names, or [`NOT_COVERED`] says why not.

use crate::device;
use crate::fixtures::{self, Fixture, cases};
use crate::rig::{Rig, U, Walk, ok};
use serde_json::Value;
use std::collections::BTreeSet;
use vqforge::kernels::{Bounded, StepScalars};
use vqforge::ops::{self, Activation, Conv};
use vqforge::plan::{Kind, Options, ParamInit, ParamSpec, ParamTable, Plan, Store};
use vqforge::shape::Shape;
use vqforge::tape::{Act, Home, Idx, Param, Tape};

/// Recorded cases that nothing computes, and why.
const NOT_COVERED: &[(&str, &[&str], &str)] = &[
    ("conv2d", &["k3d2p2"], "no model here dilates"),
    ("conv2d", &["groups2", "depthwise"], "no model here has grouped convolutions"),
    ("conv2d", &["rect53s21"], "one stride for both axes"),
    (
        "conv_transpose2d",
        &["k4s2p1", "k3s2p1op1", "k2s2", "groups2", "d2", "k3s1p1"],
        "decoders upsample by nearest neighbours and convolve",
    ),
    ("linear", &["bmm"], "batched products have no operation: attention has kernels of its own"),
    ("activation", &["gelu_erf", "geglu"], "transformers here use the tanh and sigmoid forms"),
    (
        "activation",
        &["sigmoid", "tanh", "exp", "softplus", "leaky_relu_0.2"],
        "not an activation of any model here",
    ),
    (
        "elementwise_reduce",
        &["bcast_mul", "bcast_div", "bcast_logaddexp", "cat", "permute", "gather", "pad_const"],
        "not needed by any model: layouts are fixed and padding is part of the convolution",
    ),
    (
        "elementwise_reduce",
        &["mean_dim", "sum", "big_sum", "var_dim_unbiased"],
        "reductions are parts of norms and losses, whose cases run",
    ),
    ("cross_entropy", &["label_smoothing_0.1", "l1", "smooth_l1"], "not a loss of this project"),
    ("attention", &["masked"], "no model here masks"),
    (
        "resample",
        &[
            "nearest_x3",
            "avg_pool_k2s2",
            "max_pool_k2s2",
            "avg_pool_k3s2p1",
            "max_pool_k3s2p1",
            "avg_pool_k3s1p1_nopadcount",
            "max_pool_k3s1p1_nopadcount",
        ],
        "encoders stride and decoders double",
    ),
    ("optim", &["sgd", "sgd_mom_wd"], "AdamW is the optimiser of this project"),
    (
        "vq_ema_lucidrains",
        &["cosine", "ste_cosine"],
        "codes are compared by distance, not by cosine",
    ),
    (
        "quantisers",
        &[
            "fsq_3_3",
            "fsq_7_5_5_5_5",
            "fsq_8_5_5_5",
            "fsq_8_6_5",
            "lfq_4",
            "lfq_6",
            "rvq",
            "simvq_rot",
            "simvq_ste",
        ],
        "not a quantiser of this project",
    ),
    ("quantisers", &["metrics"], "image metrics have unit tests beside their code"),
];

/// Families (or cases of them) that other files compute: family, cases (none: all that are not
/// listed above), source, name of the test.
const ELSEWHERE: &[(&str, &[&str], &str, &str)] = &[
    ("group_norm", &[], NORMS, "group_norm_as_in_torch"),
    ("layer_norm", &[], NORMS, "layer_norm_as_in_torch"),
    ("attention", &[], NORMS, "attention_as_in_torch"),
    ("softmax", &[], NORMS, "softmax_as_in_torch"),
    ("cross_entropy", &["nc", "ncl", "sum", "ignore_index"], NORMS, "cross_entropy_as_in_torch"),
    ("resample", &[], NORMS, "resampling_as_in_torch"),
    ("vq_ema_lucidrains", &["ema_a", "ema_b"], QUANTISER, "pytorch_ema_codebook"),
    ("optim", &["adam", "adamw"], OPTIMISER, "pytorch_adam_and_adamw"),
    ("optim", &["clip"], OPTIMISER, "pytorch_clipping"),
];
const NORMS: &str = include_str!("norm_fixtures.rs");
const QUANTISER: &str = include_str!("quantiser.rs");
const OPTIMISER: &str = include_str!("optimiser.rs");

/// The tape of a recorded case; `None`: not computed here.
fn record(family: &str, case: &Value) -> Option<Rig> {
    match family {
        "conv2d" => conv2d(case),
        "linear" => linear(case),
        "activation" => activation(case),
        "embedding" => embedding(case),
        "elementwise_reduce" => broadcast_sum(case),
        "cross_entropy" => squared_error(case),
        _ => None,
    }
}

const FAMILIES: [&str; 6] =
    ["conv2d", "linear", "activation", "embedding", "elementwise_reduce", "cross_entropy"];

/// One recorded case.
struct Case<'a> {
    fixture: Fixture,
    json: &'a Value,
}

impl<'a> Case<'a> {
    fn of(family: &str, json: &'a Value) -> Self {
        Case { fixture: Fixture::load(family), json }
    }
    fn name(&self) -> &'a str {
        self.json["name"].as_str().expect("a name")
    }
    fn key(&self, tensor: &str) -> String {
        format!("{}.{tensor}", self.name())
    }
    fn shape(&self, tensor: &str) -> Vec<usize> {
        self.fixture.shape(&self.key(tensor))
    }
    fn f32(&self, tensor: &str) -> Vec<f32> {
        self.fixture.f32(&self.key(tensor))
    }
    fn has(&self, tensor: &str) -> bool {
        self.fixture.has(&self.key(tensor))
    }
    /// Error of torch in f32.
    fn torch(&self, tensor: &str) -> f64 {
        self.json["torch_f32_maxabs_err"][tensor].as_f64().expect("a recorded error")
    }
    /// A pair of equal entries, or nothing.
    fn both(&self, param: &str) -> Option<usize> {
        match self.json["params"][param].as_array().map(Vec::as_slice) {
            Some([a, b]) if a == b => a.as_u64().map(|v| v as usize),
            _ => None,
        }
    }
}

fn conv2d(json: &Value) -> Option<Rig> {
    let case = Case::of("conv2d", json);
    let params = &json["params"];
    let pad = match params["pad_left_right_top_bottom"].as_array() {
        Some(pad) => {
            let at = |i: usize| pad[i].as_u64().expect("padding") as usize;
            [at(2), at(3), at(0), at(1)]
        }
        None => [case.both("padding")?; 4],
    };
    let plain = params["dilation"].is_null()
        || (case.both("dilation") == Some(1) && params["groups"].as_u64() == Some(1));
    let conv = Conv { stride: case.both("stride")?, pad };
    if !plain {
        return None;
    }
    let mut rig = Rig::default();
    let [n, cin, h, w] = case.shape("x")[..] else { panic!("four dimensions") };
    let [cout, _, kh, kw] = case.shape("w")[..] else { panic!("four dimensions") };
    let images = |t: &str| case.fixture.channels_last(&case.key(t));
    let weights = |t: &str| case.fixture.weights(&case.key(t));
    let x = rig.leaf("x", &[n, h, w, cin], images("x"));
    let weight = rig.param("w", &[kh, kw, cin, cout], weights("w"));
    let bias = case.has("b").then(|| rig.param("b", &[cout], case.f32("b")));
    let y = ok(ops::conv2d(&mut rig.tape, x, weight, bias, conv));
    rig.finish(y, images("gy"), &[]);
    rig.expect("y", images("y"), case.torch("y"));
    rig.expect("gx", images("gx"), case.torch("gx"));
    rig.expect("gw", weights("gw"), case.torch("gw"));
    if bias.is_some() {
        rig.expect("gb", case.f32("gb"), case.torch("gb"));
    }
    Some(rig)
}

fn linear(json: &Value) -> Option<Rig> {
    let case = Case::of("linear", json);
    let [rows, columns] = case.shape("w")[..] else { return None };
    let torch_layout = json["params"]["weight_layout"] == "[out,in]";
    let (input, output) = if torch_layout { (columns, rows) } else { (rows, columns) };
    let weights = |t: &str| match torch_layout {
        true => case.fixture.weights(&case.key(t)),
        false => case.f32(t),
    };
    let mut rig = Rig::default();
    let x = rig.leaf("x", &case.shape("x"), case.f32("x"));
    let weight = rig.param("w", &[input, output], weights("w"));
    let bias = case.has("b").then(|| rig.param("b", &[output], case.f32("b")));
    let y = ok(ops::linear(&mut rig.tape, x, weight, bias));
    rig.finish(y, case.f32("gy"), &[]);
    rig.expect("y", case.f32("y"), case.torch("y"));
    rig.expect("gx", case.f32("gx"), case.torch("gx"));
    rig.expect("gw", weights("gw"), case.torch("gw"));
    if bias.is_some() {
        rig.expect("gb", case.f32("gb"), case.torch("gb"));
    }
    Some(rig)
}

fn activation(json: &Value) -> Option<Rig> {
    let case = Case::of("activation", json);
    let op = match case.name() {
        "silu" => Activation::Silu,
        "gelu_tanh" => Activation::GeluTanh,
        "gelu_sigmoid1702" => Activation::GeluSigmoid,
        "relu" => Activation::Relu,
        _ => return None,
    };
    let mut rig = Rig::default();
    let x = rig.leaf("x", &case.shape("x"), case.f32("x"));
    let y = ok(ops::activation(&mut rig.tape, x, op));
    rig.finish(y, case.f32("gy"), &[]);
    rig.expect("y", case.f32("y"), case.torch("y"));
    rig.expect("gx", case.f32("gx"), case.torch("gx"));
    Some(rig)
}

fn embedding(json: &Value) -> Option<Rig> {
    let case = Case::of("embedding", json);
    let idx = case.fixture.index(&case.key("idx"));
    let mut rig = Rig::default();
    let mut tables = vec![];
    let y = match case.name() {
        "image_positional" => {
            // Row-major positions on a grid: h is the table of rows, w that of columns.
            let [batch, length] = case.shape("idx")[..] else { panic!("two dimensions") };
            let columns = case.shape("w")[0] as u32;
            let length_u32 = length as u32;
            let rows = rig.index((0..length_u32).map(|i| i / columns).collect());
            let columns = rig.index((0..length_u32).map(|i| i % columns).collect());
            let idx = rig.index(idx);
            let parts = [("emb", idx), ("h", rows), ("w", columns)];
            let [codes, rows, columns] = parts.map(|(name, idx)| {
                let table = rig.param(name, &case.shape(name), case.f32(name));
                tables.push(name);
                ok(ops::embedding(&mut rig.tape, idx, table))
            });
            let width = rig.tape.shape(codes).channels();
            let codes = ok(rig.tape.reshape(codes, &[batch, length, width]));
            let positions = ok(ops::add(&mut rig.tape, rows, columns));
            ok(ops::add_repeated(&mut rig.tape, codes, positions))
        }
        _ => {
            let idx = rig.index(idx);
            let table = rig.param("w", &case.shape("w"), case.f32("w"));
            tables.push("w");
            ok(ops::embedding(&mut rig.tape, idx, table))
        }
    };
    rig.finish(y, case.f32("gy"), &[]);
    rig.expect("y", case.f32("y"), case.torch("y"));
    for name in tables {
        let gradient = format!("g{name}");
        rig.expect(&gradient, case.f32(&gradient), case.torch(&gradient));
    }
    Some(rig)
}

/// A vector of channels added to every pixel.
fn broadcast_sum(json: &Value) -> Option<Rig> {
    let case = Case::of("elementwise_reduce", json);
    if case.name() != "bcast_add" {
        return None;
    }
    let [n, c, l] = case.shape("x")[..] else { panic!("three dimensions") };
    let last = |t: &str| case.fixture.channels_last(&case.key(t));
    let mut rig = Rig::default();
    let x = rig.leaf("x", &[n, l, c], last("x"));
    let b = rig.leaf("y2", &[c], case.f32("y2"));
    let y = ok(ops::add_repeated(&mut rig.tape, x, b));
    rig.finish(y, last("gy"), &[]);
    rig.expect("y", last("y"), case.torch("y"));
    rig.expect("gx", last("gx"), case.torch("gx"));
    rig.expect("gy2", case.f32("gy2"), case.torch("gy2"));
    Some(rig)
}

fn squared_error(json: &Value) -> Option<Rig> {
    let case = Case::of("cross_entropy", json);
    if case.name() != "mse" {
        return None;
    }
    let mut rig = Rig::default();
    let x = rig.leaf("x", &case.shape("x"), case.f32("x"));
    let t = rig.leaf("t", &case.shape("t"), case.f32("t"));
    let y = ok(ops::mse(&mut rig.tape, x, t));
    rig.finish(y, case.f32("gy"), &[]);
    rig.expect("y", case.f32("y"), case.torch("y"));
    rig.expect("gx", case.f32("gx"), case.torch("gx"));
    // By symmetry: the record has only one of the two.
    rig.expect("gt", case.f32("gx").iter().map(|g| -g).collect(), case.torch("gx"));
    Some(rig)
}

#[test]
fn as_in_torch_on_the_cpu() {
    let mut device = device::cpu(0);
    for family in FAMILIES {
        let (mut used, mut count) = (0.0f64, 0);
        for case in cases(family) {
            let Some(rig) = record(family, &case) else { continue };
            let (share, back) = rig.check(device, &format!("{family}/{}", case["name"]));
            device = back;
            (used, count) = (used.max(share), count + 1);
        }
        println!("{family:20} {count:2} cases, at most {used:.3} of the tolerance");
        assert!(count > 0);
    }
}

/// One case an operation: shaders compile slowly on software adapters.
#[test]
fn as_in_torch_on_the_gpu() {
    let Some(mut device) = device::own_gpu() else { return };
    for (family, name) in [
        ("conv2d", "vq_downsample_pad0101_s2"),
        ("conv2d", "k3s1p1"),
        ("linear", "3d"),
        ("activation", "gelu_tanh"),
        ("embedding", "image_positional"),
        ("elementwise_reduce", "bcast_add"),
        ("cross_entropy", "mse"),
    ] {
        let found = cases(family).into_iter().find(|c| c["name"] == name);
        let rig = found.and_then(|case| record(family, &case)).expect("a case");
        let (used, back) = rig.check(device, &format!("gpu {family}/{name}"));
        device = back;
        println!("gpu {family:20} {name:26} {used:.3} of the tolerance");
    }
}

/// Both forms of the quantiser's loss: quantised values, distances, losses, gradients of latents and
/// codes, with the upstream gradient passed straight through.
#[test]
fn vector_quantisation_as_in_torch() {
    let fixture = Fixture::load("vq_nearest");
    let mut device = device::cpu(0);
    for case in cases("vq_nearest") {
        let name = case["name"].as_str().expect("a name");
        let beta = case["beta"].as_f64().expect("beta") as f32;
        let at = |tensor: &str| format!("{name}.{tensor}");
        let [n, d] = fixture.shape(&at("z"))[..] else { panic!("two dimensions") };
        let k = fixture.dim(&at("codebook"), 0);
        for (kind, encoder, codebook) in [("legacy", 1.0, beta), ("nonlegacy", beta, 1.0)] {
            let mut rig = Rig::default();
            let z = rig.leaf("z", &[n, d], fixture.f32(&at("z")));
            let table = rig.param("codebook", &[k, d], fixture.f32(&at("codebook")));
            let tape = &mut rig.tape;
            let nearest = ok(ops::nearest_code(tape, z, table));
            let passed = ok(ops::straight_through(tape, z, nearest.code));
            let terms = vq_losses(tape, z, nearest.code, nearest.idx, table);
            ok(tape.output("d2", nearest.d2));
            ok(tape.report("encoder", terms[0]));
            ok(tape.report("codebook_loss", terms[1]));
            let losses = [(terms[0], encoder), (terms[1], codebook)];
            rig.finish(passed, fixture.f32(&at("gq")), &losses);
            // Quantised values are codes, copied; torch's z + (zq - z) is not quite.
            rig.expect("y", fixture.f32(&at("zq")), 0.0);
            rig.expect("d2", fixture.f32(&at("d2min")), 0.0);
            let mse = fixture.f32(&at(&format!("loss_{kind}")))[0] / (1.0 + beta);
            rig.expect("encoder", vec![mse], 0.0);
            rig.expect("codebook_loss", vec![mse], 0.0);
            rig.expect("gz", fixture.f32(&at(&format!("gz_{kind}"))), 0.0);
            rig.expect("gcodebook", fixture.f32(&at(&format!("gcodebook_{kind}"))), 0.0);
            let (used, back) = rig.check(device, &format!("vq_nearest/{name} {kind}"));
            device = back;
            println!("vq_nearest {name} {kind}: {used:.3} of the tolerance");
        }
    }
}

/// mean (z - sg(code))^2 and mean (sg(z) - code)^2.
fn vq_losses(tape: &mut Tape, z: Act, code: Act, idx: Idx, table: Param) -> [Act; 2] {
    let fixed = tape.detach(code);
    let encoder = ok(ops::mse(tape, z, fixed));
    let rows = ok(ops::embedding(tape, idx, table));
    let still = tape.detach(z);
    [encoder, ok(ops::mse(tape, rows, still))]
}

/// Three training steps of vector-quantize-pytorch with a moving-average codebook and the plain
/// straight-through estimator: indices, quantised values, loss, gradient of the latents, and the
/// state that each step leaves to the next.
///
/// The record is an f32 evaluation itself: it and ours are each within the derived bound of the exact
/// value.
#[test]
fn moving_average_codebook_as_in_torch() {
    let case = cases("vq_ema_lucidrains").into_iter().find(|c| c["name"] == "ste_a");
    let case = case.expect("a case");
    let number = |key: &str| case[key].as_f64().expect("a number");
    let (k, d) = (number("codebook_size") as usize, number("dim") as usize);
    let (decay, eps) = (number("decay") as f32, number("eps") as f32);
    let fixture = Fixture::load("vq_ema_lucidrains");
    let at = |tensor: &str| format!("ste_a.{tensor}");
    let n = fixture.f32(&at("step0.x")).len() / d;

    let (mut tape, mut table) = (Tape::new(), ParamTable::default());
    let shape = ok(Shape::new(&[n, d]));
    let spec = ParamSpec { name: "x".into(), shape, init: ParamInit::Zeros, decay: false };
    let latents = tape.param(ok(table.get_or_add(spec)), shape);
    let own = ok(tape.constant_idx(&[n], (0..n as u32).collect()));
    let x = ok(ops::embedding(&mut tape, own, latents));
    let names = ["cluster_size", "embed_avg", "embed"];
    let states = [
        ok(tape.state("cluster_size", &[k])),
        ok(tape.state("embed_avg", &[k, d])),
        ok(tape.state("embed", &[k, d])),
    ];
    let nearest = ok(ops::nearest_code(&mut tape, x, states[2]));
    let y = ok(ops::straight_through(&mut tape, x, nearest.code));
    let fixed = tape.detach(nearest.code);
    let loss = ok(ops::mse(&mut tape, x, fixed));
    let upstream = ok(tape.input("gq", &[n, d]));
    ok(tape.add_grad(y, upstream));
    ok(tape.backward(&[(loss, number("commitment_weight") as f32)]));
    ok(tape.output("quantized", y));
    ok(tape.output("idx", nearest.idx));
    ok(tape.report("loss", loss));
    let (counts, sums) = ok(ops::code_sums(&mut tape, nearest.idx, x, k));
    tape.begin_update();
    // Values that cross into the update list are sums over lanes.
    ok(tape.report("counts", counts));
    ok(tape.report("sums", sums));
    ok(ops::ema_codebook(&mut tape, (counts, sums), states, decay, eps));

    for device in [Some(device::cpu(0)), device::own_gpu()].into_iter().flatten() {
        let mut store = ok(Store::new(device, table.clone(), 0));
        let plan = ok(Plan::compile(&mut store, &tape, &Options::default(), &mut |_, _| {}));
        let mut walk = Walk::new(&tape);
        let lift = |v: &[f32]| v.iter().map(|&x| Bounded::exact(x)).collect::<Vec<_>>();
        for (name, state) in names.iter().zip(states) {
            let before = fixture.f32(&at(&format!("before._codebook.{name}")));
            let range = ok(store.find_state(name));
            ok(store.write_f32(range, &before));
            walk.floats.insert(state.into(), lift(&before));
        }
        // Updates are applied.
        let applied = [0.0, 1.0, 1.0, 0.0];
        let range = ok(store.find_state("ctl"));
        ok(store.write_f32(range, &applied));
        let ctl = tape.values().find(|(_, v)| v.home == Home::State("ctl".into())).expect("ctl").0;
        walk.floats.insert(ctl, lift(&applied));
        let mut used = 0.0f64;
        for step in 0..3 {
            let recorded = |tensor: &str| fixture.f32(&at(&format!("step{step}.{tensor}")));
            let latents = recorded("x");
            ok(store.write_param(Kind::Param, 0, &latents));
            ok(store.write_f32(ok(plan.input("gq")), &recorded("gq")));
            ok(plan.run_lane(&mut store, 0, &StepScalars::default()));
            for (id, value) in tape.values() {
                match &value.home {
                    Home::Param(_) => drop(walk.floats.insert(id, lift(&latents))),
                    Home::Input(_) => drop(walk.floats.insert(id, lift(&recorded("gq")))),
                    _ => {}
                }
            }
            walk.run();
            let idx = ok(store.read_u32(ok(plan.output("idx"))));
            assert_eq!(idx, fixture.index(&at(&format!("step{step}.idx"))), "step {step}");
            let mut compare = |what: &str, got: &[f32], want: &[f32], bounds: &[Bounded]| {
                assert_eq!((got.len(), bounds.len()), (want.len(), want.len()), "{what}");
                for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
                    let mut tolerance = 2.0 * bounds[i].tolerance();
                    if what == "quantized" {
                        // Torch's x + (code - x): the difference and the sum are rounded.
                        tolerance += U * f64::from((want - latents[i]).abs() + want.abs());
                    }
                    let error = (f64::from(got) - f64::from(want)).abs();
                    assert!(
                        error <= tolerance,
                        "step {step} {what}[{i}]: {got} instead of {want}: {error:.3e} > {tolerance:.3e}"
                    );
                    used = used.max(error / tolerance);
                }
            };
            let value = |name: &str| {
                let named = |h: &Home| matches!(h, Home::Output(n) | Home::Sum(n) if n == name);
                tape.values().find(|(_, v)| named(&v.home)).expect("a named value").0
            };
            let got = ok(store.read_f32(ok(plan.output("quantized"))));
            compare("quantized", &got, &recorded("quantized"), &walk.floats[&value("quantized")]);
            let got = ok(store.read_f32(ok(plan.sum("loss"))));
            let weight = number("commitment_weight") as f32;
            compare("loss", &[got[0] * weight], &recorded("loss"), &walk.floats[&value("loss")]);
            let got = ok(store.read_param(Kind::Grad, 0));
            let gx = tape.values().find(|(_, v)| v.home == Home::Grad(0)).expect("a gradient").0;
            compare("gx", &got, &recorded("gx"), &walk.floats[&gx]);
            for (name, state) in names.iter().zip(states) {
                let range = ok(store.find_state(name));
                let got = ok(store.read_f32(range));
                let want = recorded(&format!("after._codebook.{name}"));
                compare(name, &got, &want, &walk.floats[&state.into()]);
            }
        }
        println!("{}: at most {used:.3} of the tolerance", store.device.kind());
    }
}

/// Every recorded case is computed here, or elsewhere by a test that exists, or is listed.
#[test]
fn every_recorded_case_is_accounted_for() {
    let here = ["vq_nearest", "vq_ema_lucidrains"];
    let folder = fixtures::folder().join("ops");
    let names = |folder: &std::path::Path| -> BTreeSet<String> {
        let entries = std::fs::read_dir(folder).expect("a folder");
        let paths = entries.map(|e| e.expect("an entry").path());
        let json = paths.filter(|p| p.extension().is_some_and(|e| e == "json"));
        json.map(|p| p.file_stem().expect("a name").to_string_lossy().into()).collect()
    };
    let families = names(&folder);
    if let Some(all) = fixtures::shared("ops") {
        assert_eq!(families, names(&all), "families");
    }
    for (family, cases_of, source, test) in ELSEWHERE {
        assert!(families.contains(*family), "{family}");
        assert!(source.contains(&format!("fn {test}()")), "{family} {cases_of:?}: no {test}");
    }
    for family in &families {
        let mut listed: BTreeSet<&str> = NOT_COVERED
            .iter()
            .filter(|(f, ..)| f == family)
            .flat_map(|(_, cases, _)| cases.iter().copied())
            .collect();
        for case in cases(family) {
            let name = case["name"].as_str().expect("a name");
            let computed = record(family, &case).is_some()
                || family == "vq_nearest"
                || (here.contains(&family.as_str()) && name == "ste_a");
            let elsewhere = ELSEWHERE
                .iter()
                .any(|(f, cases, ..)| f == family && (cases.is_empty() || cases.contains(&name)));
            match (computed || elsewhere, listed.remove(name)) {
                (true, false) | (false, true) => {}
                // A whole family elsewhere leaves out what is listed.
                (true, true) if !computed => {}
                (true, true) => panic!("{family}/{name} is computed and listed as not covered"),
                (false, false) => panic!("{family}/{name} is neither computed nor listed"),
            }
        }
        assert!(listed.is_empty(), "{family} has no cases {listed:?}");
    }
}
