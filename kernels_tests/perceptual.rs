//! The perceptual loss: the distance as written down, its gradient, and features that learn.

use crate::device::cpu;
use crate::discriminator::differentiate;
use crate::rig::ok;
use vqforge::kernels::StepScalars;
use vqforge::model::{Scope, classifier, perceptual};
use vqforge::ops::{self, Conv};
use vqforge::plan::{Optimiser, Options, ParamInit, ParamTable, Plan, Store};
use vqforge::rng::{Rng, Stream};
use vqforge::tape::interpret::Interpreter;
use vqforge::tape::{Act, Home, Tape, ValueId};

const DIMS: [usize; 4] = [2, 16, 8, 1];
const WEIGHT: f64 = 0.75;

fn noise(n: usize, index: u64) -> Vec<f64> {
    let mut rng = Rng::new(5, Stream::Test, index);
    (0..n).map(|_| 0.5 * rng.normal()).collect()
}

/// weight times the mean over levels of the mean over places of |f^ - g^|^2, f^ = f / |f|.
#[test]
fn the_distance_is_one_of_directions() {
    let (mut tape, mut table) = (Tape::new(), ParamTable::default());
    let mut s = Scope::new(&mut tape, &mut table);
    let [image, x] = ["image", "x"].map(|name| ok(s.tape.input(name, &DIMS)));
    let terms = ok(perceptual::terms(&mut s, WEIGHT, image, x));
    let names: Vec<&str> = terms.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["perceptual_0", "perceptual_1", "perceptual_2"]);
    let features =
        [image, x].map(|of| ok(classifier::features(&mut s.at("features").frozen(), of)));
    let mut run = Interpreter::new(&tape);
    for (index, (id, value)) in tape.values().enumerate() {
        if matches!(value.home, Home::Param(_) | Home::Input(_)) {
            run.set(id, &noise(value.shape.elements(), index as u64));
        }
    }
    run.run(&StepScalars::default());
    let mut want = 0.0;
    for [f, g] in (0..classifier::LEVELS).map(|level| features.map(|f| f[level])) {
        let channels = tape.shape(f).channels();
        let unit = |of: Act| -> Vec<f64> {
            let rows = run.get(of).chunks(channels);
            let length = |row: &[f64]| row.iter().map(|v| v * v).sum::<f64>().sqrt();
            rows.flat_map(|row| row.iter().map(|v| v / length(row)).collect::<Vec<_>>()).collect()
        };
        let total: f64 = unit(f).iter().zip(unit(g)).map(|(f, g)| (f - g).powi(2)).sum();
        want += WEIGHT * total / tape.shape(f).rows() as f64 / classifier::LEVELS as f64;
    }
    let got: f64 = terms.iter().map(|t| f64::from(t.weight) * run.get(t.value)[0]).sum();
    // The weights are f32.
    assert!((got - want).abs() < 1e-6 * want && want > 0.1, "{got} is not {want}");
    let same = run.get(image).to_vec();
    run.set(ValueId::from(x), &same);
    run.run(&StepScalars::default());
    assert!(terms.iter().all(|t| run.get(t.value)[0] == 0.0), "an image is at 0 from itself");
}

/// It reaches the image and nothing of the features.
#[test]
fn the_gradient_is_that_of_the_image() {
    let (mut tape, mut table) = (Tape::new(), ParamTable::default());
    let mut s = Scope::new(&mut tape, &mut table);
    let x = ok(s.tape.input("x", &DIMS));
    let w = ok(s.param("w", &[3, 3, 1, 1], ParamInit::Ones, false));
    let image = ok(ops::conv2d(s.tape, x, w, None, Conv::same(3)));
    let terms = ok(perceptual::terms(&mut s, WEIGHT, image, x));
    let losses: Vec<_> = terms.iter().map(|t| (t.value, t.weight)).collect();
    ok(tape.backward(&losses));
    let losses: Vec<(ValueId, f32)> = losses.into_iter().map(|(v, w)| (v.into(), w)).collect();
    assert_eq!(differentiate(&tape, &table, &losses), 1);
}

/// Ramps along both sides, turned one way or another: from a guess (ln 4) to certainty.
#[test]
fn features_learn() {
    let (steps, batch) = (60, 8);
    let dims = [batch, 16, 8, 1];
    let (mut tape, mut table) = (Tape::new(), ParamTable::default());
    ok(perceptual::record_step(&mut tape, &mut table, &dims, 4));
    let mut store = ok(Store::new(cpu(2), table, 3));
    let options = Options {
        optimiser: Some(Optimiser::default()),
        group: perceptual::GROUP.into(),
        ..Options::default()
    };
    let plan = ok(Plan::compile(&mut store, &tape, &options, &mut |_, _| {}));
    for step in 0..steps {
        let mut rng = Rng::new(6, Stream::Test, step);
        let ways: Vec<u32> = (0..batch).map(|_| rng.next_u32() % 4).collect();
        let sign = |way: u32, bit: u32| 1.0 - 2.0 * (way >> bit & 1) as f32;
        let mut pixel = |way: u32, y: usize, x: usize| {
            let ramp =
                sign(way, 0) * (x as f32 - 3.5) / 4.0 + sign(way, 1) * (y as f32 - 7.5) / 4.0;
            0.3 * ramp + 0.1 * rng.normal() as f32
        };
        let images: Vec<f32> = ways
            .iter()
            .flat_map(|&way| (0..16 * 8).map(move |i| (way, i / 8, i % 8)))
            .map(|(way, y, x)| pixel(way, y, x))
            .collect();
        ok(store.write_f32(ok(plan.input(classifier::IMAGES)), &images));
        ok(store.write_u32(ok(plan.input(classifier::TARGET)), &ways));
        let bias = |beta: f64| (1.0 / (1.0 - beta.powi(step as i32 + 1))) as f32;
        let scalars = StepScalars {
            step: step as u32,
            lr: 2e-3,
            bias1: bias(0.9),
            bias2: bias(0.999),
            ring_row: step as u32,
            ..StepScalars::default()
        };
        ok(plan.run_lane(&mut store, 0, &scalars));
    }
    let rows = ok(plan.read_ring(&mut store, 0..steps));
    let loss = |row: usize| rows[row].scalars[0].1;
    assert!(loss(0) > 0.8 && loss(steps as usize - 1) < 0.1, "{} -> {}", loss(0), loss(59));
}

#[test]
fn small_images_are_refused() {
    let (mut tape, mut table) = (Tape::new(), ParamTable::default());
    let mut s = Scope::new(&mut tape, &mut table);
    let x = ok(s.tape.input("x", &[1, 8, 7, 1]));
    let error = perceptual::terms(&mut s, 1.0, x, x).expect_err("too small").to_string();
    assert!(error.contains("1x8x7x1") && error.contains("loss.perceptual"), "{error}");
}
