//! Vector quantisation on a tape against values recorded from PyTorch 2.6 (`fixtures/ops`): codes by
//! gradient and codes by moving averages.

use crate::device::{self, bits};
use crate::engine;
use crate::fixtures::{Fixture, cases};
use crate::rig::{Rig, U, ok};
use crate::walk::Walk;
use vqforge::kernels::{Bounded, Real, StepScalars};
use vqforge::ops;
use vqforge::plan::{Kind, Options, ParamInit, ParamSpec, ParamTable, Plan, Store};
use vqforge::shape::Shape;
use vqforge::tape::{Act, Home, Idx, Param, Tape};

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

/// Three training steps of vector-quantize-pytorch with a moving-average codebook, by distance or by
/// cosine, with the rotation trick or the plain straight-through estimator: indices, quantised
/// values, loss, gradient of the latents, and the state that each step leaves to the next.
///
/// The record is an f32 evaluation itself: it and ours are each within the derived bound of the exact
/// value.
#[test]
fn moving_average_codebook_as_in_torch() {
    for case in cases("vq_ema_lucidrains") {
        three_steps(&case);
    }
}

fn three_steps(case: &serde_json::Value) {
    let name = case["name"].as_str().expect("a name");
    let cosine = case["args"]["use_cosine_sim"] == true;
    let straight = case["args"]["rotation_trick"] == false;
    let number = |key: &str| case[key].as_f64().expect("a number");
    let (k, d) = (number("codebook_size") as usize, number("dim") as usize);
    let (decay, eps) = (number("decay") as f32, number("eps") as f32);
    let fixture = Fixture::load("vq_ema_lucidrains");
    let at = |tensor: &str| format!("{name}.{tensor}");
    let n = fixture.f32(&at("step0.x")).len() / d;

    let (mut tape, mut table) = (Tape::new(), ParamTable::default());
    let shape = ok(Shape::new(&[n, d]));
    let spec = ParamSpec { name: "x".into(), shape, init: ParamInit::Zeros, decay: false };
    let latents = tape.param(ok(table.get_or_add(spec)), shape);
    let own = ok(tape.constant_idx(&[n], (0..n as u32).collect()));
    let mut x = ok(ops::embedding(&mut tape, own, latents));
    if cosine {
        x = ok(ops::normalise_rows(&mut tape, x));
    }
    let names = ["cluster_size", "embed_avg", "embed"];
    let states = [
        ok(tape.state("cluster_size", &[k])),
        ok(tape.state("embed_avg", &[k, d])),
        ok(tape.state("embed", &[k, d])),
    ];
    let nearest = match cosine {
        true => ok(ops::nearest_code_cosine(&mut tape, x, states[2])),
        false => ok(ops::nearest_code(&mut tape, x, states[2])),
    };
    let y = match straight {
        true => ok(ops::straight_through(&mut tape, x, nearest.code)),
        false => ok(ops::rotate(&mut tape, x, nearest.code)),
    };
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
    if cosine {
        ok(ops::normalise_state(&mut tape, states[2]));
    }

    for device in [Some(device::cpu(0)), engine::gpu()].into_iter().flatten() {
        let mut store = ok(Store::new(device, table.clone(), 0));
        let plan = ok(Plan::compile(&mut store, &tape, &Options::default(), &mut |_, _| {}));
        let mut walk = Walk::<Bounded>::new(&tape);
        for (state_name, state) in names.iter().zip(states) {
            let before = fixture.f32(&at(&format!("before._codebook.{state_name}")));
            let range = ok(store.find_state(state_name));
            ok(store.write_f32(range, &before));
            walk.set(state.into(), &bits(&before));
        }
        // Updates are applied.
        let applied = [0.0, 1.0, 1.0, 0.0];
        let range = ok(store.find_state("ctl"));
        ok(store.write_f32(range, &applied));
        let ctl = tape.values().find(|(_, v)| v.home == Home::State("ctl".into())).expect("ctl").0;
        walk.set(ctl, &bits(&applied));
        let mut used = 0.0f64;
        for step in 0..3 {
            let recorded = |tensor: &str| fixture.f32(&at(&format!("step{step}.{tensor}")));
            let latents = recorded("x");
            ok(store.write_param(Kind::Param, 0, &latents));
            ok(store.write_f32(ok(plan.input("gq")), &recorded("gq")));
            ok(plan.run_lane(&mut store, 0, &StepScalars::default()));
            for (id, value) in tape.values() {
                match &value.home {
                    Home::Param(_) => walk.set(id, &bits(&latents)),
                    Home::Input(_) => walk.set(id, &bits(&recorded("gq"))),
                    _ => {}
                }
            }
            walk.run(&StepScalars::default());
            let idx = ok(store.read_u32(ok(plan.output("idx"))));
            assert_eq!(idx, fixture.index(&at(&format!("step{step}.idx"))), "{name} step {step}");
            let from = walk.floats(x.into()).to_vec();
            let mut compare = |what: &str, got: &[f32], want: &[f32], bounds: &[Bounded]| {
                assert_eq!((got.len(), bounds.len()), (want.len(), want.len()), "{what}");
                for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
                    let mut tolerance = 2.0 * bounds[i].tolerance();
                    if what == "quantized" {
                        let row = i / d * d..(i / d + 1) * d;
                        tolerance += match straight {
                            // Torch's x + (code - x): the difference and the sum are rounded.
                            true => {
                                U * ((f64::from(want) - from[i].value()).abs()
                                    + f64::from(want.abs()))
                            }
                            false => rotated(&from[row.clone()], &bounds[row])[i % d].tolerance(),
                        };
                    }
                    let error = (f64::from(got) - f64::from(want)).abs();
                    assert!(
                        error <= tolerance,
                        "{name} step {step} {what}[{i}]: {got} instead of {want}: {error:.3e} > {tolerance:.3e}"
                    );
                    used = used.max(error / tolerance);
                }
            };
            let value = |name: &str| {
                let named = |h: &Home| matches!(h, Home::Output(n) | Home::Sum(n) if n == name);
                tape.values().find(|(_, v)| named(&v.home)).expect("a named value").0
            };
            let got = ok(store.read_f32(ok(plan.output("quantized"))));
            compare("quantized", &got, &recorded("quantized"), walk.floats(value("quantized")));
            let got = ok(store.read_f32(ok(plan.sum("loss"))));
            let weight = number("commitment_weight") as f32;
            compare("loss", &[got[0] * weight], &recorded("loss"), walk.floats(value("loss")));
            let got = ok(store.read_param(Kind::Grad, 0));
            let gx = tape.values().find(|(_, v)| v.home == Home::Grad(0)).expect("a gradient").0;
            compare("gx", &got, &recorded("gx"), walk.floats(gx));
            for (state_name, state) in names.iter().zip(states) {
                let range = ok(store.find_state(state_name));
                let got = ok(store.read_f32(range));
                let want = recorded(&format!("after._codebook.{state_name}"));
                compare(state_name, &got, &want, walk.floats(state.into()));
            }
        }
        println!("{name} on {}: at most {used:.3} of the tolerance", store.device.kind());
    }
}

/// Torch's value of the rotation trick, |q| / |z| (z - 2 r (r . z) + 2 q^ (z^ . z)): the code q, but
/// for rounding.
pub fn rotated(z: &[Bounded], q: &[Bounded]) -> Vec<Bounded> {
    let dot = |a: &[Bounded], b: &[Bounded]| {
        a.iter().zip(b).fold(Bounded::zero(), |sum, (&a, &b)| sum + a * b)
    };
    let length = |x: &[Bounded]| dot(x, x).sqrt();
    let unit = |x: &[Bounded]| x.iter().map(|&v| v / length(x)).collect::<Vec<_>>();
    let (z_hat, q_hat) = (unit(z), unit(q));
    let r = unit(&z_hat.iter().zip(&q_hat).map(|(&a, &b)| a + b).collect::<Vec<_>>());
    let (along_r, along_z, two) = (dot(&r, z), dot(&z_hat, z), Bounded::of(2.0));
    let turned = (0..z.len()).map(|i| z[i] - two * r[i] * along_r + two * q_hat[i] * along_z);
    let lambda = length(q) / length(z);
    turned.map(|v| lambda * v).collect()
}
