//! Lanes: what micro-batches add up to.

use super::with_lanes;
use crate::engine::{self, BATCH, Run, Tiny, assert_same};
use vqforge::device::Device;
use vqforge::kernels::StepScalars;
use vqforge::plan::{Kind, Options, Plan, Store};
use vqforge::tape::Home;

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
    for place in engine::places() {
        for tiny in [Tiny::VqVae, Tiny::Denoiser] {
            let mut losses: Vec<Vec<(String, f32)>> = vec![];
            let mut counts = vec![];
            for lanes in [1, 2, 3, 4, 6] {
                if lanes == 6 && place.kind != "cpu" {
                    continue;
                }
                let micro = BATCH / lanes;
                let mut run = Run::new(tiny, (place.fresh)(), false, with_lanes(lanes));
                for lane in 0..lanes {
                    run.feed((lane * micro) as u64, micro);
                    let scalars = run.scalars(lane);
                    run.plan.run_lane(&mut run.store, lane, &scalars).expect("run");
                }
                let merged = gradients(&mut run);
                let scalars: Vec<_> = (0..lanes).map(|lane| run.scalars(lane)).collect();
                drop(run);
                let mut single = single_lane(tiny, (place.fresh)(), micro);
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
                let what = format!("{tiny:?}, {lanes} lanes, {}", place.kind);
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
fn single_lane(tiny: Tiny, device: Box<dyn Device>, micro: usize) -> Run {
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
