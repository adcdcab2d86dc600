//! Mixed precision as a whole: what is stored as f16 and what is not, that scaling the loss alone
//! changes nothing, that training goes on as in f32, and what happens when gradients overflow.

use crate::engine::{self, BATCH, Named, Run, Tiny, after_in, assert_same};
use crate::walk::{Noise, Walk};
use std::collections::BTreeMap;
use vqforge::device::Device;
use vqforge::kernels::grad_ctl::LossScaling;
use vqforge::kernels::{Bounded, Real};
use vqforge::plan::Options;
use vqforge::rng::{Rng, Stream};
use vqforge::tape::{GOOD_STEPS, Home, LOSS_SCALE, Precision, Tape, Value};

const STEPS: u64 = 20;

fn lanes(lanes: usize) -> Options {
    Options { lanes, ..Options::default() }
}

fn mixed(tiny: Tiny, device: Box<dyn Device>, options: Options) -> Run {
    Run::new_in(Precision::Mixed, tiny, device, true, options)
}

/// The launches of a kernel in a plan's dump.
fn launches<'d>(dump: &'d str, kernel: &str) -> Vec<&'d str> {
    let named = dump.lines().filter(|l| l.split_whitespace().any(|w| w == kernel));
    named.collect()
}

#[test]
fn large_activations_are_halves_and_nothing_else() {
    for tiny in Tiny::ALL {
        let run = mixed(tiny, engine::cpu(1), lanes(2));
        let (stats, dump) = (run.plan.stats, &run.plan.dump);
        println!("{tiny:?}: {stats:?}");
        assert!(stats.halves > 5, "{tiny:?}: {stats:?}");
        assert!(stats.slot_bytes < stats.slot_bytes_f32, "{tiny:?}: {stats:?}");
        assert!(dump.contains(&format!("{} values as f16", stats.halves)), "{dump}");
        for kernel in ["nearest_code", "code_sums", "sum_all", "mse_grad", "grad_norm", "adamw"] {
            for line in launches(dump, kernel) {
                let ranges = line.split_whitespace().filter(|w| w.contains('+'));
                assert!(ranges.clone().count() > 1, "{line}");
                assert!(ranges.into_iter().all(|r| !r.ends_with('h')), "{tiny:?}: {line}");
            }
        }
        // What was saved is told against this plan without halves, which has a scaled seed or two that
        // the f32 plan has not.
        let full = Run::new(tiny, engine::cpu(1), true, lanes(2)).plan.stats;
        assert_eq!(full.halves, 0);
        assert!(full.slot_bytes.abs_diff(stats.slot_bytes_f32) * 100 < full.slot_bytes, "{full:?}");
    }
}

/// Without what loss scaling adds: two states, the unscaled factor; gradients divided by the scale.
fn unscaled(all: &Named) -> Named {
    let scale = LossScaling::START;
    let words = |name: &str, words: &[u32], by: f32| -> Vec<u32> {
        let divide = |(i, w): (usize, &u32)| match name {
            // norm, applied, factor, skipped; the partial sums of squares are scaled twice.
            "state ctl" if i != 2 => *w,
            "state ctl" => (f32::from_bits(*w) * by).to_bits(),
            "state grad_norm" => (f32::from_bits(*w) / by / by).to_bits(),
            _ if name.starts_with("grad ") => (f32::from_bits(*w) / by).to_bits(),
            _ => *w,
        };
        words.iter().enumerate().map(divide).collect()
    };
    let added = [LOSS_SCALE, GOOD_STEPS].map(|s| format!("state {s}"));
    let kept = all.iter().filter(|(name, _)| !added.contains(name));
    kept.map(|(name, bits)| (name.clone(), words(name, bits, scale))).collect()
}

/// The scale is a power of two and every gradient is linear in the one before, so with nothing stored
/// as f16 a scaled run is the f32 run to the bit: the scale is divided out once, everywhere.
#[test]
fn scaling_the_loss_changes_no_bit() {
    for place in engine::places() {
        let tinies: &[Tiny] =
            if place.kind == "cpu" { &Tiny::ALL } else { &[Tiny::VqVae, Tiny::Denoiser] };
        for &tiny in tinies {
            let fresh = place.fresh;
            let full = engine::after(tiny, fresh(), lanes(2), 3);
            let options = Options { no_half: true, ..lanes(2) };
            let scaled = after_in(Precision::Mixed, tiny, fresh(), options, 3);
            assert_same(&format!("{tiny:?} on {}", place.kind), &unscaled(&scaled), &full);
        }
    }
}

/// Slots that hold halves, poisoned or not shared at all, and any number of threads.
#[test]
fn mixed_plans_are_repeatable() {
    let after = |tiny, device, options| after_in(Precision::Mixed, tiny, device, options, 3);
    for place in engine::places() {
        let tinies: &[Tiny] = match place.kind {
            "cpu" => &[Tiny::VqModel, Tiny::Denoiser, Tiny::Tangle],
            _ => &[Tiny::VqVae, Tiny::Tangle],
        };
        for &tiny in tinies {
            let fresh = place.fresh;
            let normal = after(tiny, fresh(), lanes(2));
            for (what, options) in [
                ("again", lanes(2)),
                ("poison", Options { poison: true, ..lanes(2) }),
                ("no reuse", Options { no_reuse: true, ..lanes(2) }),
            ] {
                let other = after(tiny, fresh(), options);
                assert_same(&format!("{tiny:?}, {what}, {}", place.kind), &other, &normal);
            }
            if place.kind == "cpu" {
                let seven = after(tiny, engine::cpu(7), lanes(2));
                assert_same(&format!("{tiny:?} on seven threads"), &seven, &normal);
            }
        }
    }
}

/// Walks with noise: they say how far a step's losses may be from their formula.
const SAMPLES: u64 = 24;

/// Mean and standard deviation, by name, of the losses of the next step of `run` if every result is
/// moved at random by what rounding may do to it: in f32 by the derived bound, and by half a step of
/// f16 where it may be stored so.
fn expected_losses(run: &mut Run, tape: &Tape) -> BTreeMap<String, (f64, f64)> {
    let (sources, scalars) = (run.sources(tape), run.scalars(0));
    let losses = |noise: Option<&mut Noise>| -> Vec<(String, f64)> {
        let mut walk = Walk::<Bounded>::new(tape);
        sources.iter().for_each(|(id, bits)| walk.set(*id, bits));
        walk.run_rounding(&scalars, noise);
        let loss = |(id, value): (_, &Value)| match &value.home {
            Home::Sum(name) if value.shape.elements() == 1 => {
                Some((name.clone(), walk.floats(id)[0].value()))
            }
            _ => None,
        };
        tape.values().filter_map(loss).collect()
    };
    let mut all: BTreeMap<String, (f64, f64)> =
        losses(None).into_iter().map(|(name, exact)| (name, (exact, 0.0))).collect();
    for seed in 0..SAMPLES {
        let mut noise = Noise { rng: Rng::new(seed, Stream::Test, 7), halves: true };
        for (name, moved) in losses(Some(&mut noise)) {
            let (exact, variance) = all.get_mut(&name).expect("a loss");
            *variance += (moved - *exact).powi(2) / SAMPLES as f64;
        }
    }
    all.into_iter().map(|(name, (exact, variance))| (name, (exact, variance.sqrt()))).collect()
}

/// Every loss within six deviations of its mean, which together are less than a tenth of it: most
/// faults move a loss by more.
fn compare(place: &str, losses: &[(String, f32)], expected: &BTreeMap<String, (f64, f64)>) {
    for (name, got) in losses {
        let (want, deviation) = expected[name];
        let deviations = (f64::from(*got) - want).abs() / deviation;
        let relative = deviation / want.abs();
        println!("{place}, {name}: {got}, {deviations:.1} deviations of {relative:.1e}");
        assert!(deviations <= 6.0, "{place}, {name}: {got} instead of {want}");
        assert!(6.0 * relative <= 0.1, "{place}, {name}: {relative:.1e} hides faults");
    }
}

/// Steps whose losses are compared with their formula: a fresh model, one on its way, a trained one.
const CHECKED: [u64; 3] = [0, 7, STEPS - 1];

/// Each step of a run in mixed precision, from wherever the run has got to, has the losses of its
/// formula within six standard deviations of what its rounding does, on each device. (How far runs
/// drift apart is not a property of one step, and no bound on it is derived.) And it learns.
#[test]
fn training_goes_on_as_in_f32() {
    for tiny in [Tiny::VqVae, Tiny::Denoiser] {
        let (tape, _) = tiny.record_in(Precision::Mixed, BATCH);
        let mut full = Run::new(tiny, engine::cpu(0), true, lanes(1));
        full.advance();
        let full = full.plan.read_ring(&mut full.store, 0..1).expect("ring").remove(0);
        for place in engine::places() {
            let mut run = mixed(tiny, (place.fresh)(), lanes(1));
            let mut totals = vec![];
            for step in 0..STEPS {
                let expected = CHECKED.contains(&step).then(|| expected_losses(&mut run, &tape));
                run.advance();
                let row =
                    run.plan.read_ring(&mut run.store, step..step + 1).expect("ring").remove(0);
                assert_eq!((row.control[1], row.control[3]), (1.0, 0.0), "a step was skipped");
                if step == 0 {
                    assert_ne!(row.scalars, full.scalars, "{tiny:?}: nothing was rounded to f16");
                }
                if let Some(expected) = expected {
                    let place = format!("{tiny:?} on {}, step {step}", place.kind);
                    compare(&place, &row.scalars, &expected);
                }
                totals.push(row.scalars.iter().map(|(_, v)| f64::from(*v)).sum::<f64>());
            }
            // The denoiser's codes are random: there is nothing to learn, only numbers to compare.
            let learns = totals[STEPS as usize - 1] < totals[0];
            assert!(learns || tiny == Tiny::Denoiser, "{tiny:?}: {totals:?}");
        }
    }
}

/// Gradients 2^40 times too large are infinite in f16: such steps change nothing but the scale, which
/// is halved until one is applied.
#[test]
fn an_overflow_halves_the_scale() {
    for place in engine::places() {
        for tiny in [Tiny::VqVae, Tiny::Denoiser] {
            let mut run = mixed(tiny, (place.fresh)(), lanes(2));
            let range = run.store.find_state(LOSS_SCALE).expect("state");
            let start = 2f32.powi(40);
            run.store.write_f32(range, &[start]).expect("write");
            let kept = |run: &mut Run| -> Named {
                let all = run.bits().into_iter();
                let kinds = ["param ", "m ", "v ", "ema ", "state ema", "state codebook"];
                all.filter(|(name, _)| kinds.iter().any(|k| name.starts_with(k))).collect()
            };
            let before = kept(&mut run);
            let mut scale = start;
            let mut skipped = 0;
            let norm = loop {
                run.advance();
                let step = run.step - 1;
                let row =
                    run.plan.read_ring(&mut run.store, step..step + 1).expect("ring").remove(0);
                let now = row.loss_scale.expect("a scale");
                if row.control[1] == 1.0 {
                    assert_eq!(now, scale, "a good step leaves the scale");
                    break row.control[0];
                }
                skipped += 1;
                scale /= 2.0;
                assert_eq!((now, row.control[3]), (scale, skipped as f32));
                assert_same(&format!("{tiny:?}: a skipped step"), &kept(&mut run), &before);
                assert!(skipped < 40, "{tiny:?} on {}: never applied", place.kind);
            };
            println!("{tiny:?} on {}: {skipped} steps skipped, norm {norm}", place.kind);
            assert!(skipped > 5 && norm.is_finite() && kept(&mut run) != before, "{tiny:?}");
        }
    }
}
