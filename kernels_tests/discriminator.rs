//! The discriminator beside an autoencoder in one store: who updates whose parameters, and that it
//! learns to tell.

use crate::device::cpu;
use crate::engine;
use crate::rig::ok;
use std::collections::BTreeMap;
use vqforge::config::Adversarial;
use vqforge::device::Device;
use vqforge::kernels::StepScalars;
use vqforge::model::Scope;
use vqforge::model::discriminator::{self, GROUP, MADE, REAL};
use vqforge::ops::{self, Conv};
use vqforge::plan::{Kind, Optimiser, Options, ParamInit, ParamTable, Plan, Store};
use vqforge::rng::{Rng, Stream};
use vqforge::tape::interpret::Interpreter;
use vqforge::tape::{Home, Tape, Value, ValueId};

const DIMS: [usize; 4] = [2, 12, 12, 1];

fn settings() -> Adversarial {
    Adversarial { weight: 0.5, layers: 2, width: 8, ..Adversarial::default() }
}

/// A generator of one convolution and its discriminator.
struct Pair {
    store: Store,
    generator: Plan,
    critic: Plan,
}

fn options(group: &str, lanes: usize) -> Options {
    let optimiser =
        Optimiser { weight_decay: 0.01, average: group.is_empty(), ..Default::default() };
    Options { optimiser: Some(optimiser), group: group.into(), lanes, ..Options::default() }
}

fn pair(device: Box<dyn Device>, lanes: usize) -> Pair {
    let mut table = ParamTable::default();
    let mut made = Tape::new();
    let mut s = Scope::new(&mut made, &mut table);
    let x = ok(s.tape.input("x", &DIMS));
    let w = ok(s.param("generator.weight", &[3, 3, 1, 1], ParamInit::Uniform(0.3), true));
    let image = ok(ops::conv2d(s.tape, x, w, None, Conv::same(3)));
    let loss = ok(ops::mse(s.tape, image, x));
    ok(s.tape.report("reconstruction", loss));
    let mut losses = vec![(loss, 1.0)];
    for term in ok(discriminator::generator_terms(&mut s, &settings(), image)) {
        ok(s.tape.report(&term.name, term.value));
        losses.push((term.value, term.weight));
    }
    ok(made.output("image", image));
    ok(made.backward(&losses));
    let mut judged = Tape::new();
    ok(discriminator::record_step(&mut judged, &mut table, &settings(), &DIMS));
    let mut store = ok(Store::new(device, table, 7));
    let generator = ok(Plan::compile(&mut store, &made, &options("", lanes), &mut |_, _| {}));
    let critic = ok(Plan::compile(&mut store, &judged, &options(GROUP, lanes), &mut |_, _| {}));
    Pair { store, generator, critic }
}

impl Pair {
    /// The bits of everything that a step may change, by whether it is the discriminator's.
    fn bits(&mut self, critic: bool) -> Vec<Vec<u32>> {
        let names: Vec<String> =
            self.store.table().specs().iter().map(|s| s.name.clone()).collect();
        let own = (0..names.len()).filter(|&i| names[i].starts_with(GROUP) == critic);
        let mut bits = vec![];
        for i in own {
            for kind in [Kind::Param, Kind::Grad, Kind::M, Kind::V, Kind::Ema] {
                let values = ok(self.store.read_param(kind, i));
                bits.push(values.into_iter().map(f32::to_bits).collect());
            }
        }
        bits
    }

    fn generate(&mut self, lane: usize, step: u64) {
        let x = images(step * 10 + lane as u64, 1.0);
        ok(self.store.write_f32(ok(self.generator.input("x")), &x));
        ok(self.generator.run_lane(&mut self.store, lane, &scalars(step)));
    }

    fn judge(&mut self, lane: usize, step: u64, real: &[f32], made: &[f32]) {
        ok(self.store.write_f32(ok(self.critic.input(REAL)), real));
        ok(self.store.write_f32(ok(self.critic.input(MADE)), made));
        ok(self.critic.run_lane(&mut self.store, lane, &scalars(step)));
    }
}

fn scalars(step: u64) -> StepScalars {
    let bias = |beta: f64| (1.0 / (1.0 - beta.powi(step as i32 + 1))) as f32;
    StepScalars {
        step: step as u32,
        lr: 2e-3,
        bias1: bias(0.9),
        bias2: bias(0.999),
        ema_decay: 0.9,
        ring_row: step as u32,
        ..StepScalars::default()
    }
}

fn images(seed: u64, std: f64) -> Vec<f32> {
    let mut rng = Rng::new(seed, Stream::Test, 0);
    (0..DIMS.iter().product()).map(|_| (std * rng.normal()) as f32).collect()
}

/// Each plan moves its own parameters and leaves those of the other, their gradients, moments and
/// averages as they are, to the bit; with two lanes, whose gradients are merged, as well.
#[test]
fn plans_update_their_own_parameters() {
    for lanes in [1, 2] {
        let mut pair = pair(cpu(2), lanes);
        for step in 0..2 {
            let [generator, critic] = [false, true].map(|of| pair.bits(of));
            (0..lanes).for_each(|lane| pair.generate(lane, step));
            assert!(pair.bits(true) == critic, "the generator's plan touches the discriminator");
            let moved = pair.bits(false);
            assert!(moved != generator, "the generator stands still");
            let (real, made) = (images(1, 1.0), images(2, 0.5));
            (0..lanes).for_each(|lane| pair.judge(lane, step, &real, &made));
            assert!(pair.bits(false) == moved, "the discriminator's plan touches the generator");
            assert!(pair.bits(true) != critic, "the discriminator stands still");
        }
    }
}

/// Gradients of the weighted losses in f64 through the interpreter, against central differences in a
/// random direction of each parameter that has one. With h = 2^-20 hardly a leaky ReLU crosses its
/// kink; the differences at h and 2h tell the error of third order, and a loss is known to 2^10
/// roundings. Returns how many parameters were compared.
pub fn differentiate(tape: &Tape, table: &ParamTable, losses: &[(ValueId, f32)]) -> usize {
    const H: f64 = 1.0 / (1 << 20) as f64;
    let mut rng = Rng::new(11, Stream::Test, 0);
    let mut values = BTreeMap::new();
    let mut run = Interpreter::new(tape);
    for (id, value) in tape.values() {
        let drawn = matches!(value.home, Home::Param(_) | Home::Input(_));
        if drawn {
            let data: Vec<f64> = (0..value.shape.elements()).map(|_| 0.5 * rng.normal()).collect();
            run.set(id, &data);
            values.insert(id, data);
        }
    }
    run.run(&StepScalars::default());
    let of = |(id, value): (ValueId, &Value)| match value.home {
        Home::Param(i) => Some((id, i, run.get(tape.grad(id)?).to_vec())),
        _ => None,
    };
    let gradients: Vec<_> = tape.values().filter_map(of).collect();
    for (id, index, gradient) in &gradients {
        let name = &table.specs()[*index].name;
        let v: Vec<f64> = gradient.iter().map(|_| rng.normal()).collect();
        let want: f64 = gradient.iter().zip(&v).map(|(g, v)| g * v).sum();
        let mut largest = 0.0f64;
        let mut loss = |h: f64| {
            let moved: Vec<f64> = values[id].iter().zip(&v).map(|(p, v)| p + h * v).collect();
            run.set(*id, &moved);
            run.run(&StepScalars::default());
            let total = losses.iter().map(|&(l, w)| f64::from(w) * run.get(l)[0]).sum::<f64>();
            largest = largest.max(total.abs());
            total
        };
        let [d1, d2] = [H, 2.0 * H].map(|h| (loss(h) - loss(-h)) / (2.0 * h));
        loss(0.0);
        let tolerance = (d1 - d2).abs() + 1024.0 * f64::EPSILON * largest / H;
        assert!((d1 - want).abs() <= tolerance, "{name}: {want} is not {d1} +- {tolerance:e}");
        assert!(tolerance < 1e-4 * want.abs().max(0.1), "{name}: {tolerance:e} proves nothing");
    }
    gradients.len()
}

#[test]
fn gradients_of_both_steps() {
    let mut table = ParamTable::default();
    let mut tape = Tape::new();
    ok(discriminator::record_step(&mut tape, &mut table, &settings(), &DIMS));
    let reported = tape.values().filter(|(_, v)| matches!(v.home, Home::Sum(_)));
    let losses: Vec<(ValueId, f32)> = reported.map(|(id, _)| (id, 1.0)).collect();
    assert_eq!(losses.len(), 2);
    let parameters = table.specs().len();
    assert_eq!(differentiate(&tape, &table, &losses), parameters);

    let mut tape = Tape::new();
    let mut s = Scope::new(&mut tape, &mut table);
    let x = ok(s.tape.input("x", &DIMS));
    let w = ok(s.param("w", &[3, 3, 1, 1], ParamInit::Ones, false));
    let image = ok(ops::conv2d(s.tape, x, w, None, Conv::same(3)));
    let terms = ok(discriminator::generator_terms(&mut s, &settings(), image));
    let losses = [(terms[0].value, terms[0].weight)];
    ok(tape.backward(&losses));
    let losses = losses.map(|(value, weight)| (value.into(), weight));
    assert_eq!(differentiate(&tape, &table, &losses), 1);
}

/// The generator hears it, and what is frozen has no gradient.
#[test]
fn a_gradient_passes_through_the_frozen_discriminator() {
    let mut tape = Tape::new();
    let mut table = ParamTable::default();
    let mut s = Scope::new(&mut tape, &mut table);
    let x = ok(s.tape.input("x", &DIMS));
    let w = ok(s.param("w", &[1, 1, 1, 1], ParamInit::Ones, false));
    let image = ok(ops::conv2d(s.tape, x, w, None, Conv::same(1)));
    let terms = ok(discriminator::generator_terms(&mut s, &settings(), image));
    assert_eq!((terms.len(), terms[0].weight), (1, -0.5));
    ok(tape.backward(&[(terms[0].value, terms[0].weight)]));
    let grads = |name: &str| {
        let index = table.find(name).expect("a parameter");
        let shape = table.specs()[index].shape;
        (index, shape)
    };
    let (own, shape) = grads("w");
    let trained = tape.param(own, shape);
    assert!(tape.grad(trained).is_some());
    for spec in table.specs().iter().filter(|s| s.name.starts_with(GROUP)) {
        let (index, shape) = grads(&spec.name);
        let frozen = tape.param(index, shape);
        assert!(tape.grad(frozen).is_none(), "{} has a gradient", spec.name);
    }
}

/// Smooth images against noisy ones: from a hinge near 1 to one near 0.
#[test]
fn it_learns_to_tell() {
    let mut pair = pair(cpu(2), 1);
    let steps = 40;
    for step in 0..steps {
        let smooth: Vec<f32> = images(step + 100, 0.1).iter().map(|v| v + 0.5).collect();
        pair.judge(0, step, &smooth, &images(step + 200, 0.7));
    }
    let rows = ok(pair.critic.read_ring(&mut pair.store, 0..steps));
    let total = |row: &vqforge::plan::RingRow| row.scalars.iter().map(|(_, v)| v).sum::<f32>();
    let (first, last) = (total(&rows[0]), total(&rows[steps as usize - 1]));
    assert!(first > 1.5 && last < 0.5, "{first} -> {last}");

    // Data score high and what is made low: the generator's term, minus its logits, leads to data.
    let (mut tape, mut table) = (Tape::new(), pair.store.table().clone());
    let mut s = Scope::new(&mut tape, &mut table);
    let x = ok(s.tape.input("x", &DIMS));
    let logits = ok(discriminator::logits(&mut s.at(GROUP.trim_end_matches('.')), &settings(), x));
    ok(tape.output("logits", logits));
    let plan = ok(Plan::compile(&mut pair.store, &tape, &Options::default(), &mut |_, _| {}));
    let mut mean = |image: Vec<f32>| {
        ok(pair.store.write_f32(ok(plan.input("x")), &image));
        ok(plan.run_lane(&mut pair.store, 0, &StepScalars::default()));
        let logits = ok(pair.store.read_f32(ok(plan.output("logits"))));
        logits.iter().sum::<f32>() / logits.len() as f32
    };
    let smooth = mean(images(998, 0.1).iter().map(|v| v + 0.5).collect());
    let noisy = mean(images(999, 0.7));
    assert!(smooth > 0.0 && noisy < 0.0, "{smooth} and {noisy}");
}

/// A tape that would train what it was told to leave.
#[test]
fn what_another_plan_trains_must_be_frozen() {
    let mut table = ParamTable::default();
    let mut tape = Tape::new();
    ok(discriminator::record_step(&mut tape, &mut table, &settings(), &DIMS));
    let mut store = ok(Store::new(cpu(1), table.clone(), 0));
    let error = Plan::compile(&mut store, &tape, &options("", 1), &mut |_, _| {});
    let error = error.expect_err("gradients of another group").to_string();
    assert!(error.contains(GROUP), "{error}");
    // Known as trained, it cannot be frozen on the same tape.
    let mut s = Scope::new(&mut tape, &mut table);
    let x = ok(s.tape.input("x", &DIMS));
    let error = discriminator::generator_terms(&mut s, &settings(), x).expect_err("trained");
    assert!(error.to_string().contains("frozen"), "{error}");
}

#[test]
fn small_images_are_refused() {
    let mut tape = Tape::new();
    let mut table = ParamTable::default();
    let error = discriminator::record_step(&mut tape, &mut table, &settings(), &[1, 12, 11, 1]);
    assert!(error.expect_err("no patch").to_string().contains("12 x 11"));
}

/// A smoke test: kernels are held to their formulas elsewhere. Sums of up to 128 terms (4 x 4 windows of
/// 8 channels) in another order differ by up to 128 roundings, so the two may differ as much as the
/// CPU does from itself with all weights off by that.
#[test]
fn a_gpu_learns_as_the_cpu_does() {
    let Some(device) = engine::gpu() else { return };
    let mut pairs = [pair(cpu(1), 1), pair(cpu(1), 1), pair(device, 1)];
    let off = 1.0 + 128.0 * 0.5f32.powi(24);
    for index in 0..pairs[1].store.table().specs().len() {
        let weights = ok(pairs[1].store.read_param(Kind::Param, index));
        let moved: Vec<f32> = weights.into_iter().map(|w| w * off).collect();
        ok(pairs[1].store.write_param(Kind::Param, index, &moved));
    }
    let (real, made) = (images(5, 0.2), images(6, 0.8));
    let losses = pairs.each_mut().map(|pair| {
        (0..3).for_each(|step| pair.judge(0, step, &real, &made));
        let rows = ok(pair.critic.read_ring(&mut pair.store, 0..3));
        rows.iter().flat_map(|r| r.scalars.iter().map(|(_, v)| *v)).collect::<Vec<f32>>()
    });
    let [cpu, moved, gpu] = losses;
    let apart = |other: &[f32]| {
        cpu.iter().zip(other).map(|(cpu, other)| (cpu - other).abs()).fold(0.0, f32::max)
    };
    let (allowed, error) = (apart(&moved), apart(&gpu));
    assert!(error <= allowed && allowed < 1e-2, "{error:e} apart, {allowed:e} allowed");
}
