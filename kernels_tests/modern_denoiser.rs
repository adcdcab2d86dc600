//! The modern denoiser against PyTorch: logits, loss and the gradient of every parameter. An element may
//! differ from the record, which torch computed in f64, by 4 times the error of torch's own f32, or by the
//! bound of [`crate::roundings`] where that is more.

use crate::device;
use crate::engine;
use crate::fixtures::{Fixture, folder};
use crate::recorded::{Pass, Shares, rms};
use crate::rig::ok;
use serde_json::Value;
use vqforge::config::{Conditioning, Config, Denoiser, DenoiserKind, Mlp, Positions, RowNorm};
use vqforge::device::Device;
use vqforge::kernels::StepScalars;
use vqforge::model::Scope;
use vqforge::model::denoiser::{self, CONTEXT, Context, DROPPED, Grid, TIME};
use vqforge::ops;
use vqforge::plan::{Kind, Options, ParamTable, Plan, Store};
use vqforge::rng::{Rng, Stream};
use vqforge::tape::{Home, Tape};
use vqforge::train::diffusion;

/// As `make.py` beside the records has them.
fn cases() -> [(&'static str, Denoiser, Grid); 2] {
    let grid = Grid { rows: 3, cols: 4, codes: 7, classes: 2, times: 0, context: None };
    let modern = Denoiser { kind: DenoiserKind::Modern, heads: 2, ..Denoiser::default() };
    let rms = Denoiser {
        layers: 1,
        width: 16,
        qk_norm: true,
        positions: Positions::Rotary,
        ..modern.clone()
    };
    let layer = Denoiser {
        layers: 2,
        width: 8,
        mlp_ratio: 2,
        norm: RowNorm::Layer,
        positions: Positions::Learned,
        mlp: Mlp::Gelu,
        conditioning: Conditioning::Cross,
        ..modern
    };
    [
        ("rms", rms, Grid { context: Some(Context { tokens: 1, width: 3 }), ..grid }),
        ("layer", layer, Grid { times: 4, context: Some(Context { tokens: 3, width: 5 }), ..grid }),
    ]
}

/// A weight or its gradient as we have it: tables and the null lie as in PyTorch, linear weights the
/// other way round.
fn ours(file: &Fixture, kind: &str, name: &str) -> Vec<f32> {
    let tensor = format!("{kind}.{name}");
    let same = name.ends_with("emb.weight") || name == "null_context";
    if same { file.f32(&tensor) } else { file.weights(&tensor) }
}

fn check(device: Box<dyn Device>, (name, config, grid): (&str, Denoiser, Grid)) {
    let label = format!("{name} on {}", device.kind());
    let folder = folder().join("modern_denoiser");
    let file = Fixture::open(&folder.join(format!("{name}.safetensors")));
    let errors = std::fs::read_to_string(folder.join("errors.json")).expect("errors.json");
    let errors: Value = serde_json::from_str(&errors).expect("json");
    // 4 times the error of torch in f32.
    let torch = |what: &str| 4.0 * errors[name][what].as_f64().expect("an error");
    let batch = file.index("class").len();
    let tokens = batch * grid.tokens();

    let (mut tape, mut table) = (Tape::new(), ParamTable::default());
    let mut s = Scope::new(&mut tape, &mut table);
    let index = |s: &mut Scope<'_>, name: &str| {
        let data = file.index(name);
        ok(s.tape.constant_idx(&[data.len()], data))
    };
    let (x, truth) = (index(&mut s, "tokens"), index(&mut s, "truth"));
    let class = index(&mut s, "class");
    let logits = ok(denoiser::logits(&mut s, &config, grid, batch, x, class));
    let weight = ok(s.tape.constant(&[tokens], vec![1.0; tokens]));
    let (loss, _) = ok(ops::cross_entropy(s.tape, logits, truth, weight, 1.0 / tokens as f32));
    ok(tape.output("logits", logits));
    ok(tape.report("loss", loss));
    ok(tape.backward(&[(loss, 1.0)]));

    let mut store = ok(Store::new(device, table, 0));
    let plan = ok(Plan::compile(&mut store, &tape, &Options::default(), &mut |_, _| {}));
    let specs = store.table().specs().to_vec();
    let recorded = file.names().iter().filter(|n| n.starts_with("p.")).count();
    assert_eq!(specs.len(), recorded, "every weight");
    for (i, spec) in specs.iter().enumerate() {
        ok(store.write_param(Kind::Param, i, &ours(&file, "p", &spec.name)));
    }
    let dropped = file.f32("dropped");
    let len = file.f32("context").len() / batch;
    let kept = |(i, v): (usize, f32)| if dropped[i / len] == 0.0 { v } else { 0.0 };
    let context: Vec<f32> = file.f32("context").into_iter().enumerate().map(kept).collect();
    ok(store.write_f32(ok(plan.input(CONTEXT)), &context));
    ok(store.write_f32(ok(plan.input(DROPPED)), &dropped));
    if grid.times > 0 {
        ok(store.write_u32(ok(plan.input(TIME)), &file.index("time")));
    }
    ok(plan.run_lane(&mut store, 0, &StepScalars::default()));
    let mut pass = Pass { tape, store, plan };

    let mut shares = Shares::default();
    let want = file.f32("logits");
    let derived = pass.relative_of_output("logits") * rms(&want);
    shares.compare("logits", &pass.output("logits"), &want, torch("logits"), derived);
    shares.compare("loss", &[pass.sum("loss")], &file.f32("loss"), torch("loss"), derived);
    shares.report(&label, "forward");

    let mut shares = Shares::default();
    for (i, spec) in specs.iter().enumerate() {
        let want = ours(&file, "g", &spec.name);
        // A bias of keys moves all logits of a row alike: its gradient is zero, and its terms are of the
        // size of the weight's.
        let size = match spec.name.strip_suffix("to_k.bias") {
            Some(block) => rms(&ours(&file, "g", &format!("{block}to_k.weight"))),
            None => rms(&want),
        };
        let largest = want.iter().fold(0.0f32, |a, v| a.max(v.abs()));
        let derived = pass.relative(pass.value(|h| *h == Home::Grad(i))) * size;
        let got = ok(pass.store.read_param(Kind::Grad, i));
        let torch = torch("gradients") * f64::from(largest);
        shares.compare(&spec.name, &got, &want, torch, derived);
    }
    shares.report(&label, "gradients");
}

#[test]
fn modern_denoiser_as_in_torch() {
    for case in cases() {
        for device in [Some(device::cpu(0)), engine::gpu()].into_iter().flatten() {
            check(device, case.clone());
        }
    }
}

/// Over a billion parameters are counted as the formula of a block says, before anything is allocated.
#[test]
fn a_billion_parameters_are_counted() {
    let (layers, width, codes) = (48, 1280, 1024);
    let kind = DenoiserKind::Modern;
    let config = Config {
        denoiser: Denoiser { kind, layers, width, heads: 20, ..Denoiser::default() },
        ..Config::default()
    };
    let grid = Grid { rows: 16, cols: 16, codes, classes: 10, times: 0, context: None };
    let (mut tape, mut table) = (Tape::new(), ParamTable::default());
    ok(diffusion::record(&mut tape, &mut table, &config, grid, 2));
    let linear = |from: usize, to: usize| (from + 1) * to;
    // 8/3 of the width, rounded up to a multiple of 8.
    let hidden = 3416;
    let gated = 2 * linear(width, hidden) + linear(hidden, width);
    let block = linear(width, 6 * width) + 4 * linear(width, width) + gated;
    let tables = (codes + 1 + grid.classes + 1 + grid.rows + grid.cols) * width;
    let ends = linear(width, 2 * width) + linear(width, codes);
    let want = layers * block + tables + ends;
    assert!(want > 1_000_000_000, "{want}");
    assert_eq!(table.elements(), want);
}

/// Where every token is the same mask, only learned positions tell places apart: rotary ones say how far
/// two tokens are from each other, and all that is attended to is alike.
#[test]
fn rotary_positions_alone_see_no_places_in_one_mask() {
    let grid = Grid { rows: 3, cols: 4, codes: 7, classes: 0, times: 0, context: None };
    for positions in [Positions::Rotary, Positions::Learned, Positions::Both] {
        let kind = DenoiserKind::Modern;
        let config =
            Denoiser { kind, positions, layers: 1, width: 8, heads: 2, ..Denoiser::default() };
        let (mut tape, mut table) = (Tape::new(), ParamTable::default());
        let mut s = Scope::new(&mut tape, &mut table);
        let masked = ok(s.tape.constant_idx(&[12], vec![7; 12]));
        let class = ok(s.tape.constant_idx(&[1], vec![0]));
        let logits = ok(denoiser::logits(&mut s, &config, grid, 1, masked, class));
        ok(tape.output("logits", logits));
        let mut store = ok(Store::new(device::cpu(0), table, 4));
        let plan = ok(Plan::compile(&mut store, &tape, &Options::default(), &mut |_, _| {}));
        for (i, spec) in store.table().specs().to_vec().into_iter().enumerate() {
            // Gates and scales that start at zero would hide what attention does.
            let mut rng = Rng::new(i as u64, Stream::Test, 0);
            let data: Vec<f32> = (0..spec.shape.elements()).map(|_| rng.normal() as f32).collect();
            ok(store.write_param(Kind::Param, i, &data));
        }
        ok(plan.run_lane(&mut store, 0, &StepScalars::default()));
        let logits = ok(store.read_f32(ok(plan.output("logits"))));
        let size = rms(&logits);
        let (first, others) = logits.split_at(7);
        let differences: Vec<f32> =
            others.chunks_exact(7).flat_map(|o| o.iter().zip(first).map(|(a, b)| a - b)).collect();
        // Sums of equal numbers with weights that add up to 1, up to f32: a thousandth is far above it.
        let apart = rms(&differences) > 1e-3 * size;
        assert_eq!(apart, positions != Positions::Rotary, "{positions:?}");
    }
}
