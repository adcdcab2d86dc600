//! Mixed precision as a whole: what is stored as f16 and what is not, that scaling the loss alone
//! changes nothing, that training goes on as in f32, and what happens when gradients overflow.

use crate::engine::{self, Named, Run, Tiny, after_in, assert_same};
use vqforge::device::Device;
use vqforge::kernels::grad_ctl::LossScaling;
use vqforge::plan::Options;
use vqforge::tape::{GOOD_STEPS, LOSS_SCALE, Precision};

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
    for device in engine::devices() {
        let tinies: &[Tiny] =
            if device.kind() == "cpu" { &Tiny::ALL } else { &[Tiny::VqVae, Tiny::Denoiser] };
        for &tiny in tinies {
            let fresh = || engine::another(&*device);
            let full = engine::after(tiny, fresh(), lanes(2), 3);
            let options = Options { no_half: true, ..lanes(2) };
            let scaled = after_in(Precision::Mixed, tiny, fresh(), options, 3);
            assert_same(&format!("{tiny:?} on {}", device.kind()), &unscaled(&scaled), &full);
        }
    }
}

/// Slots that hold halves, poisoned or not shared at all, and any number of threads.
#[test]
fn mixed_plans_are_repeatable() {
    let after = |tiny, device, options| after_in(Precision::Mixed, tiny, device, options, 3);
    for device in engine::devices() {
        let tinies: &[Tiny] = match device.kind() {
            "cpu" => &[Tiny::VqModel, Tiny::Denoiser, Tiny::Tangle],
            _ => &[Tiny::VqVae, Tiny::Tangle],
        };
        for &tiny in tinies {
            let fresh = || engine::another(&*device);
            let normal = after(tiny, fresh(), lanes(2));
            for (what, options) in [
                ("again", lanes(2)),
                ("poison", Options { poison: true, ..lanes(2) }),
                ("no reuse", Options { no_reuse: true, ..lanes(2) }),
            ] {
                let other = after(tiny, fresh(), options);
                assert_same(&format!("{tiny:?}, {what}, {}", device.kind()), &other, &normal);
            }
            if device.kind() == "cpu" {
                let seven = after(tiny, engine::cpu(7), lanes(2));
                assert_same(&format!("{tiny:?} on seven threads"), &seven, &normal);
            }
        }
    }
}

/// Loss, as the sum of all named scalars, and control words of every step.
fn train(run: &mut Run) -> Vec<f64> {
    (0..STEPS).for_each(|_| run.advance());
    let rows = run.plan.read_ring(&mut run.store, 0..STEPS).expect("ring");
    let loss = |row: vqforge::plan::RingRow| {
        assert_eq!((row.control[1], row.control[3]), (1.0, 0.0), "no step was skipped");
        row.scalars.iter().map(|(_, v)| f64::from(*v)).sum()
    };
    rows.into_iter().map(loss).collect()
}

/// Largest relative difference of the first loss and of all.
fn apart(what: &str, a: &[f64], b: &[f64]) -> [f64; 2] {
    let relative = |i: usize| (a[i] - b[i]).abs() / b[i].abs();
    let all = (0..a.len()).map(relative).fold(0.0, f64::max);
    println!("{what}: first loss {:.1e} apart, all {all:.1e}; {} .. {}", relative(0), a[0], a[19]);
    [relative(0), all]
}

/// A stored value is off by at most u = 2^-11 of itself. A loss is a mean over hundreds of squares or
/// logarithms, each behind some dozen stored values whose errors are independent: sqrt(12) u / 10
/// is 2e-4, and 1e-3 is five times that. Training amplifies it; how much, the f32 runs of
/// `agreement` show: a factor of 100 in ten steps for differences of 1e-7, which here would be 2 %
/// from the start of a difference of 2e-4. Devices that store the same halves but for those where
/// f32 rounding tips the balance (one in a thousand) differ less.
#[test]
fn training_goes_on_as_in_f32() {
    for tiny in [Tiny::VqVae, Tiny::Denoiser] {
        let full = train(&mut Run::new(tiny, engine::cpu(0), true, lanes(2)));
        let cpu = train(&mut mixed(tiny, engine::cpu(0), lanes(2)));
        assert_ne!(cpu, full, "{tiny:?}: nothing was rounded to f16");
        let [first, all] = apart(&format!("{tiny:?}, mixed and f32"), &cpu, &full);
        assert!(first < 1e-3 && all < 2e-2, "{tiny:?}: {first} {all}");
        // The denoiser's codes are random: there is nothing to learn, only numbers to compare.
        assert!(tiny == Tiny::Denoiser || cpu[19] < 0.7 * cpu[0], "{tiny:?}: {cpu:?}");
        let Some(device) = engine::gpu() else { continue };
        let gpu = train(&mut mixed(tiny, device, lanes(2)));
        let [first, all] = apart(&format!("{tiny:?}, GPU and CPU"), &gpu, &cpu);
        assert!(first < 2e-4 && all < 2e-2, "{tiny:?}: {first} {all}");
    }
}

/// Gradients 2^40 times too large are infinite in f16: such steps change nothing but the scale, which
/// is halved until one is applied.
#[test]
fn an_overflow_halves_the_scale() {
    for device in engine::devices() {
        for tiny in [Tiny::VqVae, Tiny::Denoiser] {
            let mut run = mixed(tiny, engine::another(&*device), lanes(2));
            let place = run.store.find_state(LOSS_SCALE).expect("state");
            let start = 2f32.powi(40);
            run.store.write_f32(place, &[start]).expect("write");
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
                assert!(skipped < 40, "{tiny:?} on {}: never applied", device.kind());
            };
            println!("{tiny:?} on {}: {skipped} steps skipped, norm {norm}", device.kind());
            assert!(skipped > 5 && norm.is_finite() && kept(&mut run) != before, "{tiny:?}");
        }
    }
}
