//! The planner: a compiled plan is the tape, whatever shares storage; the optimiser and the lanes do
//! what their formulas say.

use crate::compare::{equal_bits, within_bound};
use crate::engine::{self, BATCH, Run, Tiny, after, assert_same};
use crate::walk::Walk;
use std::path::Path;
use vqforge::device::noop;
use vqforge::kernels::{Bounded, Real, StepScalars};
use vqforge::ops;
use vqforge::plan::{Kind, Options, ParamInit, ParamSpec, ParamTable, Plan, Store};
use vqforge::rng::{Rng, Stream};
use vqforge::shape::Shape;
use vqforge::tape::interpret::Interpreter;
use vqforge::tape::{Home, Tape, ValueId};

const STEPS: usize = 3;

fn with_lanes(lanes: usize) -> Options {
    Options { lanes, ..Options::default() }
}

/// Bits of parameters, states and inputs as `run` has them, for everything on its tape.
fn sources(run: &mut Run, tape: &Tape) -> Vec<(ValueId, Vec<u32>)> {
    let inputs = run.tiny.samples(0, BATCH);
    let mut all = vec![];
    for (id, value) in tape.values() {
        let bits = match &value.home {
            Home::Param(i) => run.store.read_u32(run.store.range(Kind::Param, *i)),
            Home::State(name) => {
                run.store.find_state(name).and_then(|range| run.store.read_u32(range))
            }
            Home::Input(name) => {
                Ok(inputs.iter().find(|(n, _)| n == name).expect("input").1.clone())
            }
            _ => continue,
        };
        all.push((id, bits.expect("read")));
    }
    all
}

/// Bits of everything that the plan leaves behind.
fn results(run: &mut Run, tape: &Tape) -> Vec<(ValueId, String, Vec<u32>)> {
    let mut all = vec![];
    for (id, value) in tape.values() {
        let range = match &value.home {
            Home::Grad(i) => Ok(run.store.range(Kind::Grad, *i)),
            Home::Sum(name) => run.plan.sum(name),
            Home::Output(name) => run.plan.output(name),
            Home::State(name) => run.store.find_state(name),
            _ => continue,
        };
        let words = run.store.read_u32(range.expect("range")).expect("read");
        all.push((id, format!("{:?} {:?}", run.tiny, value.home), words));
    }
    all
}

/// A plan without an optimiser, and the words it starts from. The control words say "apply"; the
/// gradients are NaN, so that adding to one that was never written shows.
fn untrained(tiny: Tiny) -> (Run, Tape, Vec<(ValueId, Vec<u32>)>) {
    let mut run = Run::new(tiny, engine::naive(), false, Options::default());
    let control = run.store.state("ctl", 4).expect("state");
    run.store.write_f32(control, &[1.0, 1.0, 1.0, 0.0]).expect("write");
    for i in 0..run.store.table().specs().len() {
        let unwritten = vec![f32::NAN; run.store.range(Kind::Grad, i).len];
        run.store.write_param(Kind::Grad, i, &unwritten).expect("write");
    }
    run.feed(0, BATCH);
    let (tape, _) = tiny.record(BATCH);
    let sources = sources(&mut run, &tape);
    (run, tape, sources)
}

/// Slots, segments, in-place writes and copies change nothing: the plan on the naive device equals a
/// walk of the tape in which every value has storage of its own.
#[test]
fn a_plan_is_its_tape_bit_for_bit() {
    for tiny in Tiny::ALL {
        let (mut run, tape, sources) = untrained(tiny);
        let scalars = run.scalars(0);
        let mut walk = Walk::<f32>::new(&tape);
        sources.iter().for_each(|(id, bits)| walk.set(*id, bits));
        walk.run(&scalars);
        run.plan.run_lane(&mut run.store, 0, &scalars).expect("run");
        let mut moved = 0;
        for (id, name, got) in results(&mut run, &tape) {
            let want: Vec<u32> = match walk.is_float(id) {
                true => walk.floats(id).iter().map(|x| x.to_bits()).collect(),
                false => walk.words(id).to_vec(),
            };
            moved += usize::from(want.iter().any(|&w| w != 0));
            equal_bits(&got, &want).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        assert!(moved > 5, "{tiny:?}: nothing was computed");
    }
}

/// The tangle has in-place writes that are granted and some that must become copies.
#[test]
fn refused_in_place_writes_become_copies() {
    let (tape, _) = Tiny::Tangle.record(BATCH);
    let wanted = tape.nodes().iter().filter(|n| n.init.is_some()).count();
    let options = Options { fuse: false, ..Options::default() };
    let run = Run::new(Tiny::Tangle, engine::naive(), false, options);
    let launches = run.plan.stats.lane_launches;
    let copies = launches - tape.nodes().len();
    assert!(copies > 0 && copies < wanted, "{copies} copies for {wanted} in-place writes");
}

/// Walks with noise that bound how far rounding carries.
const SAMPLES: u64 = 4;

/// The f32 plan agrees with the f64 interpreter as far as rounding lets it. Each launch may be off by
/// its derived bound; how that travels through the rest is sampled: walks in which every result is
/// moved at random within the bound of its own launch. Real rounding is one more such walk (with
/// smaller steps: the bounds are for the worst case), so it lands within four times the largest
/// deviation seen. Without noise the walk is the interpreter's, to the bit.
#[test]
fn a_plan_agrees_with_the_interpreter() {
    for tiny in Tiny::ALL {
        let (mut run, tape, sources) = untrained(tiny);
        let scalars = run.scalars(0);
        let mut oracle = Interpreter::new(&tape);
        let walked = |noise: Option<u64>| {
            let mut walk = Walk::<Bounded>::new(&tape);
            sources.iter().for_each(|(id, bits)| walk.set(*id, bits));
            let mut rng = noise.map(|seed| Rng::new(seed, Stream::Test, 0));
            walk.run_rounding(&scalars, rng.as_mut());
            walk
        };
        let exact = walked(None);
        let noisy: Vec<_> = (0..SAMPLES).map(|seed| walked(Some(seed))).collect();
        for (id, bits) in &sources {
            if exact.is_float(*id) {
                let floats: Vec<f64> = bits.iter().map(|&b| f32::from_bits(b).into()).collect();
                oracle.set(*id, &floats);
            } else {
                oracle.set_idx(*id, bits);
            }
        }
        oracle.run(&scalars);
        run.plan.run_lane(&mut run.store, 0, &scalars).expect("run");
        let (mut used, mut all, mut slack) = (0.0f64, 0.0, 0.0);
        for (id, name, got) in results(&mut run, &tape) {
            if !exact.is_float(id) {
                equal_bits(&got, oracle.get_idx(id)).unwrap_or_else(|e| panic!("{name}: {e}"));
                continue;
            }
            let want = oracle.get(id);
            let same = exact.floats(id).iter().zip(want).all(|(a, b)| a.value() == *b);
            assert!(same, "{name}: the walk is not the interpreter's");
            let off = |values: &mut dyn Iterator<Item = f64>| {
                values.zip(want).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
            };
            let moved = noisy.iter().map(|w| off(&mut w.floats(id).iter().map(|x| x.value())));
            let tolerance = 4.0 * moved.fold(0.0, f64::max);
            let error = off(&mut got.iter().map(|&b| f32::from_bits(b).into()));
            // A comparison with NaN is false.
            assert!(error <= tolerance, "{name}: {error:.1e} > {tolerance:.1e}");
            used = used.max(error / tolerance.max(f64::MIN_POSITIVE));
            all += want.iter().map(|w| w * w).sum::<f64>();
            slack += tolerance.powi(2);
        }
        let loose = (slack / all).sqrt();
        println!("{tiny:?}: {:.0} % of the tolerance used, {loose:.1e} of the norm", 100.0 * used);
        assert!(loose < 1e-3, "{tiny:?}: a tolerance of {loose:.1e} of the norm proves nothing");
    }
}

/// NaN at birth and death of every slot, and a slot for every value, change no bit of three steps.
#[test]
fn poison_and_separate_slots_change_nothing() {
    for device in engine::devices() {
        let kind = device.kind();
        let tinies: &[Tiny] =
            if kind == "cpu" { &Tiny::ALL } else { &[Tiny::VqVae, Tiny::Denoiser, Tiny::Tangle] };
        for &tiny in tinies {
            let fresh = || engine::another(&*device);
            let normal = after(tiny, fresh(), with_lanes(2), STEPS);
            for (what, options) in [
                ("poison", Options { poison: true, ..with_lanes(2) }),
                ("no reuse", Options { no_reuse: true, ..with_lanes(2) }),
            ] {
                let other = after(tiny, fresh(), options, STEPS);
                assert_same(&format!("{tiny:?}, {what}, {kind}"), &other, &normal);
            }
        }
    }
}

/// Slots are shared at all: otherwise the test above compares a plan with itself.
#[test]
fn slots_are_reused() {
    for tiny in Tiny::ALL {
        let stats = |options| Run::new(tiny, engine::cpu(1), true, options).plan.stats;
        let normal = stats(Options::default());
        let separate = stats(Options { no_reuse: true, ..Options::default() });
        assert!(
            normal.slot_bytes * 3 < separate.slot_bytes * 2,
            "{tiny:?}: {normal:?} {separate:?}"
        );
        assert!(separate.slot_bytes <= separate.tensor_bytes, "{tiny:?}: {separate:?}");
    }
}

/// Same seed, same bits: run to run on each device, and at any number of threads.
#[test]
fn same_seed_same_bits() {
    for device in engine::devices() {
        for tiny in [Tiny::VqVae, Tiny::Denoiser] {
            let fresh = || engine::another(&*device);
            let once = after(tiny, fresh(), with_lanes(2), STEPS);
            let again = after(tiny, fresh(), with_lanes(2), STEPS);
            assert_same(&format!("{tiny:?} twice on {}", device.kind()), &again, &once);
        }
    }
    for tiny in Tiny::ALL {
        let [one, two, seven] = [1, 2, 7].map(|n| after(tiny, engine::cpu(n), with_lanes(2), 3));
        assert_same(&format!("{tiny:?} on two threads"), &two, &one);
        assert_same(&format!("{tiny:?} on seven threads"), &seven, &one);
        let shorter = after(tiny, engine::cpu(2), with_lanes(2), 2);
        assert_ne!(shorter, one, "{tiny:?}: the third step changed nothing");
    }
}

/// Gradients and sums of `count` samples from `first` on, from a plan of one lane.
fn lane_bits(run: &mut Run, first: u64, count: usize, scalars: &StepScalars) -> engine::Named {
    run.feed(first, count);
    run.plan.run_lane(&mut run.store, 0, scalars).expect("run");
    gradients(run)
}

/// Bits of gradients and of sums.
fn gradients(run: &mut Run) -> engine::Named {
    let (tape, _) = run.tiny.record(1);
    let mut all = vec![];
    for (_, value) in tape.values() {
        let range = match &value.home {
            Home::Grad(i) => run.store.range(Kind::Grad, *i),
            Home::Sum(name) => run.plan.sum(name).expect("sum"),
            _ => continue,
        };
        all.push((format!("{:?}", value.home), run.store.read_u32(range).expect("read")));
    }
    all
}

/// a + b in f32, element by element.
fn add(a: &engine::Named, b: &engine::Named) -> engine::Named {
    let sum = |x: &u32, y: &u32| (f32::from_bits(*x) + f32::from_bits(*y)).to_bits();
    type Named = (String, Vec<u32>);
    let pair = |((name, a), (_, b)): (&Named, &Named)| {
        (name.clone(), a.iter().zip(b).map(|(x, y)| sum(x, y)).collect())
    };
    a.iter().zip(b).map(pair).collect()
}

/// What the lanes are merged into is their sum by the fixed tree, to the bit: gradients, losses and
/// code statistics. Losses of different lane counts differ by the rounding of one sum.
#[test]
fn lanes_are_added_in_a_fixed_tree() {
    for device in engine::devices() {
        for tiny in [Tiny::VqVae, Tiny::Denoiser] {
            let mut losses: Vec<Vec<(String, f32)>> = vec![];
            let mut counts = vec![];
            for lanes in [1, 2, 3, 4, 6] {
                if lanes == 6 && device.kind() != "cpu" {
                    continue;
                }
                let micro = BATCH / lanes;
                let mut run = Run::new(tiny, engine::another(&*device), false, with_lanes(lanes));
                for lane in 0..lanes {
                    run.feed((lane * micro) as u64, micro);
                    let scalars = run.scalars(lane);
                    run.plan.run_lane(&mut run.store, lane, &scalars).expect("run");
                }
                let merged = gradients(&mut run);
                let scalars: Vec<_> = (0..lanes).map(|lane| run.scalars(lane)).collect();
                drop(run);
                let mut single = single_lane(tiny, engine::another(&*device), micro);
                let of: Vec<_> = (0..lanes)
                    .map(|l| lane_bits(&mut single, (l * micro) as u64, micro, &scalars[l]))
                    .collect();
                let tree = match &of[..] {
                    [a] => a.clone(),
                    [a, b] => add(a, b),
                    [a, b, c] => add(&add(a, b), c),
                    [a, b, c, d] => add(&add(a, b), &add(c, d)),
                    [a, b, c, d, e, f] => add(&add(&add(a, b), &add(c, d)), &add(e, f)),
                    _ => unreachable!("lane counts above"),
                };
                let what = format!("{tiny:?}, {lanes} lanes, {}", device.kind());
                assert_same(&what, &merged, &tree);
                let scalar = |(name, bits): &(String, Vec<u32>)| match bits[..] {
                    [one] if name.starts_with("Sum") => {
                        Some((name.clone(), f32::from_bits(one) / lanes as f32))
                    }
                    _ => None,
                };
                losses.push(merged.iter().filter_map(scalar).collect());
                counts.extend(merged.into_iter().filter(|(n, _)| n == "Sum(\"code_counts\")"));
            }
            for other in &losses[1..] {
                for ((name, a), (_, b)) in losses[0].iter().zip(other) {
                    // Terms are not negative and their number is below 2^10: each sum is within
                    // (2^10 + 4) u of the exact one, whatever its order (Higham, section 4.2).
                    let bound = 2.0 * 1028.0 * f64::from(f32::EPSILON) / 2.0 * f64::from(*a);
                    let error = (f64::from(*a) - f64::from(*b)).abs();
                    assert!(*a > 0.0 && error <= bound, "{tiny:?} {name}: {a} and {b}");
                }
            }
            // Counts are whole numbers: exact, and the same for any number of lanes.
            assert!(counts.windows(2).all(|w| w[0] == w[1]), "{tiny:?}: {counts:?}");
            let total = |bits: &[u32]| bits.iter().map(|&b| f32::from_bits(b)).sum::<f32>();
            assert!(counts.iter().all(|(_, c)| total(c) == (BATCH * 16) as f32));
            assert_eq!(counts.is_empty(), tiny == Tiny::Denoiser);
        }
    }
}

/// A plan of one lane for micro-batches of `micro` samples.
fn single_lane(tiny: Tiny, device: Box<dyn vqforge::device::Device>, micro: usize) -> Run {
    let (tape, table) = tiny.record(micro);
    let config = tiny.config(1);
    let mut store = Store::new(device, table, config.train.seed).expect("store");
    let options = Options::default();
    let plan = Plan::compile(&mut store, &tape, &options, &mut |_, _| {}).expect("plan");
    for (name, values) in tiny.states() {
        let range = store.find_state(name).expect("state");
        store.write_f32(range, &values).expect("write");
    }
    Run { tiny, store, plan, config, step: 0 }
}

/// Clipping by the norm of the mean gradient, then AdamW (Loshchilov & Hutter 2019, algorithm 2) with
/// bias corrections and decoupled decay, then the weight average: recomputed from the gradients that
/// the device holds, within the rounding that the formula itself implies.
#[test]
fn the_update_follows_its_formula() {
    for (tiny, lanes) in [(Tiny::VqVae, 3), (Tiny::Denoiser, 1), (Tiny::Tangle, 4)] {
        let mut run = Run::new(tiny, engine::cpu(2), true, with_lanes(lanes));
        let specs = run.store.table().specs().to_vec();
        let mut clipped = 0;
        for t in 1..=STEPS as i32 {
            let mut read = |kind: Kind| -> Vec<Vec<f32>> {
                (0..specs.len()).map(|i| run.store.read_param(kind, i).expect("read")).collect()
            };
            let before = [Kind::Param, Kind::M, Kind::V, Kind::Ema].map(&mut read);
            run.advance();
            let mut read = |kind: Kind| -> Vec<Vec<f32>> {
                (0..specs.len()).map(|i| run.store.read_param(kind, i).expect("read")).collect()
            };
            let grads = read(Kind::Grad);
            let got = [Kind::Param, Kind::M, Kind::V, Kind::Ema].map(&mut read);

            let train = &run.config.train;
            let mean = Bounded::of(1.0 / lanes as f64);
            let mut squares = Bounded::zero();
            for &g in grads.iter().flatten() {
                squares += Bounded::exact(g) * Bounded::exact(g);
            }
            let norm = mean * squares.sqrt();
            let clips = norm.value() > train.clip;
            clipped += usize::from(clips);
            let scale = match clips {
                true => Bounded::of(train.clip) / (norm + Bounded::of(1e-6)),
                false => Bounded::one(),
            };
            let of = Bounded::of;
            let rate = train.lr * (f64::from(t) / train.warmup as f64).min(1.0);
            let [b1, b2] = train.betas;
            let average = train.ema_decay.min(f64::from(t) / (9.0 + f64::from(t)));
            for (i, spec) in specs.iter().enumerate() {
                let decay = if spec.decay { train.weight_decay } else { 0.0 };
                let mut want: [Vec<Bounded>; 4] = Default::default();
                for j in 0..spec.shape.elements() {
                    let [p, m, v, ema] = before.each_ref().map(|b| Bounded::exact(b[i][j]));
                    let g = scale * mean * Bounded::exact(grads[i][j]);
                    let m = of(b1) * m + of(1.0 - b1) * g;
                    let v = of(b2) * v + of(1.0 - b2) * g * g;
                    let mhat = m / of(1.0 - b1.powi(t));
                    let vhat = v / of(1.0 - b2.powi(t));
                    let p = p - of(rate) * of(decay) * p;
                    let p = p - of(rate) * mhat / (vhat.sqrt() + of(train.eps));
                    let ema = ema + of(1.0 - average) * (p - ema);
                    want.iter_mut().zip([p, m, v, ema]).for_each(|(w, x)| w.push(x));
                }
                for ((kind, got), want) in ["param", "m", "v", "ema"].iter().zip(&got).zip(&want) {
                    within_bound(&got[i], want)
                        .unwrap_or_else(|e| panic!("{tiny:?} step {t}, {kind} {}: {e}", spec.name));
                }
            }
        }
        assert!(clipped > 0, "{tiny:?}: the clip was never reached");
    }
}

/// The launches, ranges and barriers of tiny plans, as text. `VQFORGE_BLESS=1` rewrites the files.
#[test]
fn dumps_are_golden() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels_tests/golden");
    // Barriers are a cost of their own: a change must be noticed, not only blessed.
    let pinned = [("vqvae", Tiny::VqVae, 61), ("denoiser", Tiny::Denoiser, 67)];
    for (name, tiny, barriers) in pinned {
        let run = Run::new(tiny, engine::cpu(1), true, with_lanes(2));
        let path = folder.join(format!("{name}.txt"));
        if std::env::var("VQFORGE_BLESS").as_deref() == Ok("1") {
            std::fs::create_dir_all(&folder).expect("folder");
            std::fs::write(&path, &run.plan.dump).expect("write");
            println!("{name}: pin {} barriers", run.plan.stats.barriers);
            continue;
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        let mut lines = run.plan.dump.lines().zip(golden.lines()).enumerate();
        if let Some((i, (got, want))) = lines.find(|(_, (a, b))| a != b) {
            panic!(
                "{name}.txt:{}: the plan changed (VQFORGE_BLESS=1 accepts it)\n- {want}\n+ {got}",
                i + 1
            );
        }
        assert_eq!(run.plan.dump.lines().count(), golden.lines().count(), "{name}");
        assert_eq!(run.plan.stats.barriers, barriers, "{name}: barriers");
        println!("{name}: {:?}", run.plan.stats);
    }
}

/// sum of y^2 of an upsampled x [1, 128, 128, 8] (512 KiB): y is 2 MiB.
fn upsampling() -> Tape {
    let mut tape = Tape::new();
    let x = tape.input("x", &[1, 128, 128, 8]).expect("input");
    let y = ops::upsample2x(&mut tape, x).expect("op");
    let double = ops::add(&mut tape, y, y).expect("op");
    let total = ops::sum_of_squared_errors(&mut tape, double, y, 1.0).expect("op");
    tape.output("total", total).expect("output");
    tape
}

fn one_mebibyte() -> Box<dyn vqforge::device::Device> {
    let limits = wgpu::Limits {
        max_storage_buffer_binding_size: 1 << 20,
        max_buffer_size: 1 << 20,
        ..wgpu::Limits::default()
    };
    Box::new(noop("1 MiB", limits).expect("noop device"))
}

/// What a device cannot bind is refused with the reason, before anything runs; where it fits, it is
/// computed.
#[test]
fn oversized_tensors_are_refused() {
    let tape = upsampling();
    let mut store = Store::new(one_mebibyte(), ParamTable::default(), 0).expect("store");
    let e = Plan::compile(&mut store, &tape, &Options::default(), &mut |_, _| {}).unwrap_err();
    assert_eq!(e.exit_code(), 6, "{e}");
    for part in ["2 MiB", "[1x256x256x8]", "upsample2x", "noop: 1 MiB", "at most 1 MiB", "help:"] {
        assert!(e.to_string().contains(part), "{part}: {e}");
    }
    let stats = store.device.stats();
    assert_eq!((stats.dispatches, stats.submits, stats.pipelines), (0, 0, 0), "{stats:?}");

    let mut big = ParamTable::default();
    let shape = Shape::new(&[1024, 1024]).expect("shape");
    let spec = ParamSpec { name: "w".into(), shape, init: ParamInit::Zeros, decay: false };
    big.get_or_add(spec).expect("parameter");
    let e = Store::new(one_mebibyte(), big, 0).unwrap_err();
    assert!(e.to_string().contains("parameter w [1024x1024] needs 4 MiB"), "{e}");

    let mut tape = Tape::new();
    let x = tape.input("wide", &[1024, 1024]).expect("input");
    let sum = ops::sum_of_squared_errors(&mut tape, x, x, 1.0).expect("op");
    tape.output("sum", sum).expect("output");
    let mut store = Store::new(one_mebibyte(), ParamTable::default(), 0).expect("store");
    let e = Plan::compile(&mut store, &tape, &Options::default(), &mut |_, _| {}).unwrap_err();
    assert!(e.to_string().contains("input wide wants 4 MiB"), "{e}");

    let tape = upsampling();
    let mut store = Store::new(engine::cpu(2), ParamTable::default(), 0).expect("store");
    let plan = Plan::compile(&mut store, &tape, &Options::default(), &mut |_, _| {}).expect("plan");
    let x: Vec<f32> = (0..128 * 128 * 8).map(|i| (i % 1013) as f32 * 0.01).collect();
    store.write_f32(plan.input("x").expect("input"), &x).expect("write");
    plan.run_lane(&mut store, 0, &StepScalars::default()).expect("run");
    let got = store.read_f32(plan.output("total").expect("output")).expect("read")[0];
    let want = 4.0 * x.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
    // 2^19 squares, none negative: (2^19 + 4) u covers every order of adding them.
    let bound = f64::from((1 << 19) + 4) * f64::from(f32::EPSILON) / 2.0 * want;
    assert!((f64::from(got) - want).abs() <= bound, "{got} instead of {want}");
}
