//! Joining launches changes no bit: models and random graphs, with and without it, on every device.

use crate::engine::{self, Run, Tiny, after, assert_same};
use crate::rig::ok;
use vqforge::device::Device;
use vqforge::error::Result;
use vqforge::kernels::Matmul;
use vqforge::kernels::StepScalars;
use vqforge::kernels::binary::{Binary, BinaryOp};
use vqforge::kernels::copy::Copy;
use vqforge::kernels::mse_grad::MseGrad;
use vqforge::kernels::scale_by::ScaleBy;
use vqforge::kernels::unary::Unary;
use vqforge::kernels::upsample2x::Upsample2x;
use vqforge::model::Scope;
use vqforge::ops::{self, Activation, Conv};
use vqforge::plan::{Kind, Options, ParamInit, ParamTable, Plan, Store};
use vqforge::rng::{Rng, Stream};
use vqforge::tape::{Act, Tape};

fn apart(options: Options) -> Options {
    Options { fuse: false, ..options }
}

/// Three steps of every tiny model, in all modes of the planner.
#[test]
fn models_keep_their_bits() {
    for place in engine::places() {
        let kind = place.kind;
        let tinies: &[Tiny] =
            if kind == "cpu" { &Tiny::ALL } else { &[Tiny::VqModel, Tiny::Denoiser, Tiny::Tangle] };
        for &tiny in tinies {
            let fresh = place.fresh;
            let lanes = || Options { lanes: 2, ..Options::default() };
            let want = after(tiny, fresh(), apart(lanes()), 3);
            assert_same(&format!("{tiny:?} {kind}"), &after(tiny, fresh(), lanes(), 3), &want);
            if kind == "cpu" {
                let poison = Options { poison: true, ..lanes() };
                let no_reuse = Options { no_reuse: true, ..lanes() };
                for (what, options) in [("poison", poison), ("no reuse", no_reuse)] {
                    let got = after(tiny, fresh(), options, 3);
                    assert_same(&format!("{tiny:?} {what}"), &got, &want);
                }
            }
        }
    }
}

/// Every rewrite happens somewhere, and pays where the design says so.
#[test]
fn models_get_shorter() {
    let mut text = String::new();
    for tiny in Tiny::ALL {
        let of = |options| Run::new(tiny, engine::cpu(1), true, options).plan;
        let (with, without) = (of(Options::default()), of(apart(Options::default())));
        assert!(with.stats.lane_launches * 10 < without.stats.lane_launches * 9, "{tiny:?}");
        assert!(with.stats.barriers < without.stats.barriers, "{tiny:?}");
        assert!(!without.dump.contains("[joined]"));
        let joined = with.dump.split("[joined]").nth(1).expect("a section").to_string();
        println!("{tiny:?}:{joined}");
        text += &joined;
    }
    for what in [
        "conv2d + add/binary -> conv2d_epilogue",
        "linear/matmul + add/binary -> matmul_epilogue",
        "linear/matmul + activation/unary -> matmul_epilogue, intermediate kept",
        "mse/mse_grad + straight_through/copy -> fused",
        "writes for linear/sum_partials",
    ] {
        assert!(text.contains(what), "{what} is nowhere in\n{text}");
    }
}

/// A random step: operations with gradients, and kernels without, over tensors of one shape.
struct Graph {
    tape: Tape,
    table: ParamTable,
    inputs: Vec<(String, usize)>,
    outputs: usize,
}

impl Graph {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed, Stream::Test, 900);
        let (mut tape, mut table) = (Tape::new(), ParamTable::default());
        let c = [4, 5, 8][rng.below(3) as usize];
        let dims = match rng.below(8) {
            // Enough rows for sums in several parts.
            0 => [2, 32, 16, c],
            _ => [1 + rng.below(3) as usize, 2, 1 + rng.below(4) as usize, c],
        };
        let n = dims.iter().product();
        let mut s = Scope::new(&mut tape, &mut table);
        let (inputs, outputs) = ok(record(&mut s, &mut rng, dims));
        let named = inputs.into_iter().map(|(name, len)| (name, if len == 0 { n } else { len }));
        Graph { inputs: named.collect(), tape, table, outputs }
    }
}

/// Inputs (0: of full size) and the number of outputs.
fn record(
    s: &mut Scope<'_>,
    rng: &mut Rng,
    dims: [usize; 4],
) -> Result<(Vec<(String, usize)>, usize)> {
    let (c, n) = (dims[3], dims.iter().product());
    let x = s.tape.input("x", &dims)?;
    let z = s.tape.input("z", &dims)?;
    let row = s.tape.input("row", &[c])?;
    let scalar = s.tape.input("scalar", &[1])?;
    let mut pool = vec![x, z];
    // Every parameter needs a loss; those come last, so that chains stay in one piece.
    let (mut wanted, mut outputs) = (vec![(z, x)], 0);
    for i in 0..6 + rng.below(14) {
        let mut pick = || {
            // Mostly the latest values, so that chains arise.
            let back = rng.below(3).min(rng.below(pool.len() as u32)) as usize;
            pool[pool.len() - 1 - back]
        };
        let (a, b) = (pick(), pick());
        let act = Activation::ALL[rng.below(4) as usize];
        let bare = rng.below(2) == 0;
        let y = match rng.below(12) {
            0 | 1 => ops::add(s.tape, a, b)?,
            2 | 3 => ops::activation(s.tape, a, act)?,
            4 | 5 => {
                // Two tables of weights, each used several times.
                let k = rng.below(2);
                let w = s.param(&format!("w{k}"), &[c, c], ParamInit::Normal(0.4), true)?;
                let bias = s.param(&format!("b{k}"), &[c], ParamInit::Normal(0.4), false)?;
                let y = ops::linear(s.tape, a, w, Some(bias))?;
                wanted.push((y, s.tape.detach(b)));
                y
            }
            6 => {
                let w = s.param(&format!("c{i}"), &[3, 3, c, c], ParamInit::Normal(0.2), true)?;
                let bias = match bare {
                    true => None,
                    false => {
                        Some(s.param(&format!("d{i}"), &[c], ParamInit::Normal(0.4), false)?)
                    }
                };
                let y = ops::conv2d(s.tape, a, w, bias, Conv::same(3))?;
                wanted.push((y, x));
                y
            }
            7 => ops::add_repeated(s.tape, a, row)?,
            8 => ops::layer_norm(s.tape, a, 1e-3)?,
            9 => {
                let y = s.tape.temp_like(a);
                let (op, alpha) = (BinaryOp::ALL[i as usize % 3], [1.0, -0.5][i as usize % 2]);
                let kernel = Binary { op, n, b_len: n, accum: false, alpha };
                s.tape.launch(kernel, &[a.into(), b.into(), y.into()])?;
                y
            }
            10 => {
                let y = s.tape.temp_like(a);
                let kernel = ScaleBy { n, factor: 1.5, accum: false };
                s.tape.launch(kernel, &[a.into(), scalar.into(), y.into()])?;
                y
            }
            _ => {
                let y = s.tape.temp_like(a);
                let kernel = MseGrad { n, factor: 0.25, accum: false };
                s.tape.launch(kernel, &[a.into(), b.into(), scalar.into(), y.into()])?;
                y
            }
        };
        if rng.below(6) == 0 {
            let copy = s.tape.temp_like(y);
            s.tape.launch(Copy { n, accum: false }, &[y.into(), copy.into()])?;
            s.tape.output(&format!("o{outputs}"), copy)?;
            outputs += 1;
        }
        pool.push(y);
    }
    wanted[0] = (pool[pool.len() - 1], z);
    let mut losses = vec![];
    for (y, target) in wanted {
        losses.push(ops::mse(s.tape, y, target)?);
    }
    let weighted: Vec<(Act, f32)> =
        losses.iter().enumerate().map(|(i, &l)| (l, [1.0, 0.3][i % 2])).collect();
    for (i, loss) in losses.into_iter().enumerate() {
        s.tape.report(&format!("loss {i}"), loss)?;
    }
    s.tape.backward(&weighted)?;
    let inputs = [("x", 0), ("z", 0), ("row", c), ("scalar", 1)];
    Ok((inputs.map(|(name, len)| (name.into(), len)).into(), outputs))
}

/// Bits of everything that one step leaves behind.
fn results(graph: &Graph, device: Box<dyn Device>, options: &Options) -> (engine::Named, Plan) {
    let mut store = ok(Store::new(device, graph.table.clone(), 3));
    let plan = ok(Plan::compile(&mut store, &graph.tape, options, &mut |_, _| {}));
    for (i, (name, len)) in graph.inputs.iter().enumerate() {
        let mut rng = Rng::new(i as u64, Stream::Test, 901);
        let values: Vec<f32> = (0..*len).map(|_| rng.normal() as f32).collect();
        ok(store.write_f32(ok(plan.input(name)), &values));
    }
    ok(plan.run_lane(&mut store, 0, &StepScalars::default()));
    let mut all = vec![];
    for i in 0..graph.table.specs().len() {
        let range = store.range(Kind::Grad, i);
        all.push((format!("gradient {i}"), ok(store.read_u32(range))));
    }
    for i in 0..graph.outputs {
        let range = ok(plan.output(&format!("o{i}")));
        all.push((format!("output {i}"), ok(store.read_u32(range))));
    }
    let losses = (0..).map_while(|i| plan.sum(&format!("loss {i}")).ok());
    for (i, range) in losses.enumerate() {
        all.push((format!("loss {i}"), ok(store.read_u32(range))));
    }
    (all, plan)
}

/// Graphs on each device. The naive forms run some too: they are what the planner is proven with.
#[test]
fn random_graphs_keep_their_bits() {
    let (mut with, mut without, mut text) = (0, 0, String::new());
    for seed in 0..60 {
        let graph = Graph::new(seed);
        let mut modes = vec![Options::default()];
        modes.push(Options { poison: true, ..Options::default() });
        modes.push(Options { no_reuse: true, ..Options::default() });
        let (want, plan) = results(&graph, engine::cpu(2), &apart(Options::default()));
        without += plan.stats.lane_launches;
        for (i, options) in modes.iter().enumerate() {
            let (got, plan) = results(&graph, engine::cpu(2), options);
            assert_same(&format!("graph {seed}, mode {i}"), &got, &want);
            if i == 0 {
                with += plan.stats.lane_launches;
                text += plan.dump.split("[joined]").nth(1).expect("a section");
            }
        }
        if seed < 20 {
            let (want, _) = results(&graph, engine::naive(), &apart(Options::default()));
            let (got, _) = results(&graph, engine::naive(), &Options::default());
            assert_same(&format!("graph {seed}, naive"), &got, &want);
        }
    }
    println!("60 graphs: {without} launches, {with} joined");
    assert!(with * 5 < without * 4);
    for what in [
        "-> fused",
        "-> fused, intermediate kept",
        "-> conv2d_epilogue, intermediate kept",
        "-> matmul_epilogue, intermediate kept",
        "2 sum_partials -> finish_sums",
        "4 sum_partials -> finish_sums",
    ] {
        assert!(text.contains(&format!("{what}\n")), "no {what} in\n{text}");
    }
    for seed in 0..3 {
        let graph = Graph::new(seed);
        let Some(gpu) = engine::gpu() else { return };
        let (want, _) = results(&graph, gpu, &apart(Options::default()));
        let Some(gpu) = engine::gpu() else { return };
        let (got, _) = results(&graph, gpu, &Options::default());
        assert_same(&format!("graph {seed}, gpu"), &got, &want);
    }
}

/// `t = f(g)`, then a product is added to g in place, then `t + g`: f(g) must not wait for the sum,
/// because g is another tensor by then.
#[test]
fn what_changes_in_between_is_not_joined() {
    let (mut tape, mut table) = (Tape::new(), ParamTable::default());
    let mut s = Scope::new(&mut tape, &mut table);
    let (rows, c) = (6, 4);
    let n = rows * c;
    let w = ok(s.param("w", &[c, c], ParamInit::Normal(1.0), true));
    let x = ok(tape.input("x", &[rows, c]));
    let h = ok(ops::linear(&mut tape, x, w, None));
    let function = || Unary { op: Activation::Silu, n, backward: false, accum: false };
    // No join with what makes g, so that t alone reads it.
    let y = ok(tape.input("y", &[1, 3, 1, 2]));
    let [g, t, u] = [0; 3].map(|_| tape.temp_like(x));
    ok(tape.launch(Upsample2x { n: 1, h: 3, w: 1, c: 2 }, &[y.into(), g.into()]));
    ok(tape.add_grad(h, g));
    ok(tape.launch(function(), &[g.into(), t.into()]));
    let target = tape.target(h).expect("it is differentiable");
    assert!(target.accum);
    let product = Matmul { accum: true, ..Matmul::new(rows, c, c) };
    ok(tape.launch_into(target, product, &[h.into(), w.into(), target.value.into()]));
    let sum = Binary { op: BinaryOp::Add, n, b_len: n, accum: false, alpha: 1.0 };
    ok(tape.launch(sum, &[t.into(), target.value.into(), u.into()]));
    ok(tape.output("o0", u));
    let graph = Graph { tape, table, inputs: vec![("x".into(), n), ("y".into(), 6)], outputs: 1 };
    let (want, _) = results(&graph, engine::cpu(1), &apart(Options::default()));
    let (got, _) = results(&graph, engine::cpu(1), &Options::default());
    assert_same("in place", &got, &want);
}
