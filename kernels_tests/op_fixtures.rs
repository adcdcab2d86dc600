//! Operations on a tape, forward and backward, against values recorded from PyTorch 2.6
//! (`fixtures/ops`): computed by torch in f64 on f32 inputs and rounded to f32. Layouts are changed
//! here: images are recorded as NCHW, weights as [out, in, ..].
//!
//! The tolerance of every element is derived: see [`Rig::check`]. What is not computed here,
//! [`crate::coverage`] accounts for.

use crate::device;
use crate::engine;
use crate::fixtures::{Fixture, cases};
use crate::rig::{Rig, ok};
use serde_json::Value;
use vqforge::error::Result;
use vqforge::ops::{self, Activation, Conv, Penalty};
use vqforge::tape::{Act, Param, Tape};

/// The tape of a recorded case; `None`: not computed here.
pub fn record(family: &str, case: &Value) -> Option<Rig> {
    match family {
        "conv2d" => conv2d(case),
        "conv_transpose2d" => conv_transpose2d(case),
        "linear" => linear(case),
        "activation" => activation(case),
        "embedding" => embedding(case),
        "elementwise_reduce" => broadcast_sum(case),
        "cross_entropy" => difference(case),
        _ => None,
    }
}

const FAMILIES: [&str; 7] = [
    "conv2d",
    "conv_transpose2d",
    "linear",
    "activation",
    "embedding",
    "elementwise_reduce",
    "cross_entropy",
];

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
    let [cout, _, _, _] = case.shape("w")[..] else { panic!("four dimensions") };
    Some(convolution(&case, cout, conv, ops::conv2d))
}

/// A convolution to `cout` channels; in both directions the record's weights are ours reversed.
fn convolution(
    case: &Case,
    cout: usize,
    conv: Conv,
    op: impl Fn(&mut Tape, Act, Param, Option<Param>, Conv) -> Result<Act>,
) -> Rig {
    let mut rig = Rig::default();
    let [n, cin, h, w] = case.shape("x")[..] else { panic!("four dimensions") };
    let [o, i, kh, kw] = case.shape("w")[..] else { panic!("four dimensions") };
    let images = |t: &str| case.fixture.channels_last(&case.key(t));
    let weights = |t: &str| case.fixture.weights(&case.key(t));
    let x = rig.leaf("x", &[n, h, w, cin], images("x"));
    let weight = rig.param("w", &[kh, kw, i, o], weights("w"));
    let bias = case.has("b").then(|| rig.param("b", &[cout], case.f32("b")));
    let y = ok(op(&mut rig.tape, x, weight, bias, conv));
    rig.finish(y, images("gy"), &[]);
    rig.expect("y", images("y"), case.torch("y"));
    rig.expect("gx", images("gx"), case.torch("gx"));
    rig.expect("gw", weights("gw"), case.torch("gw"));
    if bias.is_some() {
        rig.expect("gb", case.f32("gb"), case.torch("gb"));
    }
    rig
}

fn conv_transpose2d(json: &Value) -> Option<Rig> {
    let case = Case::of("conv_transpose2d", json);
    let params = &json["params"];
    let number = |name: &str| params[name].as_u64().expect("a number") as usize;
    if number("dilation") != 1 || number("groups") != 1 {
        return None;
    }
    // What torch adds at the end is what is not cut off there.
    let (first, last) = (number("padding"), number("padding") - number("output_padding"));
    let conv = Conv { stride: number("stride"), pad: [first, last, first, last] };
    let [_, cout, _, _] = case.shape("w")[..] else { panic!("four dimensions") };
    Some(convolution(&case, cout, conv, ops::conv_transpose2d))
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

/// A linear layer to twice the width, the first half times the GELU of the second.
fn geglu(case: &Case<'_>) -> Rig {
    let mut rig = Rig::default();
    let x = rig.leaf("x", &case.shape("x"), case.f32("x"));
    let [wide, input] = case.shape("w")[..] else { panic!("two dimensions") };
    let weights = |tensor: &str| case.fixture.weights(&case.key(tensor));
    let weight = rig.param("w", &[input, wide], weights("w"));
    let bias = rig.param("b", &[wide], case.f32("b"));
    let (tape, half) = (&mut rig.tape, wide / 2);
    let both = ok(ops::linear(tape, x, weight, Some(bias)));
    let [value, gate] = [0, half].map(|at| ok(ops::slice_columns(tape, both, at, half)));
    let gate = ok(ops::activation(tape, gate, Activation::Gelu));
    let y = ok(ops::mul(tape, value, gate));
    rig.finish(y, case.f32("gy"), &[]);
    rig.expect("gw", weights("gw"), case.torch("gw"));
    for tensor in ["y", "gx", "gb"] {
        rig.expect(tensor, case.f32(tensor), case.torch(tensor));
    }
    rig
}

fn activation(json: &Value) -> Option<Rig> {
    let case = Case::of("activation", json);
    if case.name() == "geglu" {
        return Some(geglu(&case));
    }
    let op = match case.name() {
        "silu" => Activation::Silu,
        "gelu_tanh" => Activation::GeluTanh,
        "gelu_sigmoid1702" => Activation::GeluSigmoid,
        "relu" => Activation::Relu,
        "leaky_relu_0.2" => Activation::LeakyRelu,
        "gelu_erf" => Activation::Gelu,
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

fn difference(json: &Value) -> Option<Rig> {
    let case = Case::of("cross_entropy", json);
    let penalty = match case.name() {
        "mse" => None,
        "l1" => Some(Penalty::Absolute),
        "smooth_l1" => Some(Penalty::Smooth { beta: 1.0 }),
        _ => return None,
    };
    let mut rig = Rig::default();
    let x = rig.leaf("x", &case.shape("x"), case.f32("x"));
    let t = rig.leaf("t", &case.shape("t"), case.f32("t"));
    let y = match penalty {
        None => ok(ops::mse(&mut rig.tape, x, t)),
        Some(penalty) => ok(ops::pixel_loss(&mut rig.tape, x, t, None, penalty)),
    };
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
    let Some(mut device) = engine::gpu() else { return };
    for (family, name) in [
        ("conv2d", "vq_downsample_pad0101_s2"),
        ("conv2d", "k3s1p1"),
        ("conv_transpose2d", "k4s2p1"),
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
