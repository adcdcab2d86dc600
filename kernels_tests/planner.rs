//! The planner: a compiled plan is the tape, whatever shares storage; the optimiser and the lanes do
//! what their formulas say.

mod lanes;
mod limits;
mod update;

use crate::compare::equal_bits;
use crate::engine::{self, BATCH, Run, Tiny, after, assert_same};
use crate::walk::{Noise, Walk};
use vqforge::kernels::{Bounded, Real};
use vqforge::plan::{Kind, Options};
use vqforge::rng::{Rng, Stream};
use vqforge::tape::interpret::Interpreter;
use vqforge::tape::{Home, Node, Tape, ValueId};

const STEPS: usize = 3;

fn with_lanes(lanes: usize) -> Options {
    Options { lanes, ..Options::default() }
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
    let sources = run.sources(&tape);
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
    // What a later node reads must be copied.
    let nodes = tape.nodes();
    let reads = |n: &Node, value| {
        n.binds.iter().chain(n.init.as_ref().map(|(_, v)| v)).any(|&b| tape.root(b) == value)
    };
    let needed = |(at, n): &(usize, &Node)| {
        let from = n.init.map(|(_, from)| tape.root(from));
        from.is_some_and(|from| nodes[at + 1..].iter().any(|later| reads(later, from)))
    };
    let needed = nodes.iter().enumerate().filter(needed).count();
    assert!(needed > 0 && copies >= needed, "{copies} copies, {needed} values still needed");
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
            let mut noise =
                noise.map(|seed| Noise { rng: Rng::new(seed, Stream::Test, 0), halves: false });
            walk.run_rounding(&scalars, noise.as_mut());
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
    for place in engine::places() {
        let kind = place.kind;
        let tinies: &[Tiny] =
            if kind == "cpu" { &Tiny::ALL } else { &[Tiny::VqVae, Tiny::Denoiser, Tiny::Tangle] };
        for &tiny in tinies {
            let fresh = place.fresh;
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
    for place in engine::places() {
        for tiny in [Tiny::VqVae, Tiny::Denoiser] {
            let fresh = place.fresh;
            let once = after(tiny, fresh(), with_lanes(2), STEPS);
            let again = after(tiny, fresh(), with_lanes(2), STEPS);
            assert_same(&format!("{tiny:?} twice on {}", place.kind), &again, &once);
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
