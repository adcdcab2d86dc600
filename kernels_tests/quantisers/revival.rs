//! Dead codes and the latents they move to.

use super::{images, length, run_of, settings, state};
use crate::rig::{U, ok};
use vqforge::config::{Distance, QuantiserKind};
use vqforge::model::quantiser::{CODEBOOK, CODEBOOK_PARAM, EMA_M, EMA_N, of_head};
use vqforge::plan::{Kind, RING_ROWS};
use vqforge::train::autoencoder::AutoencoderJob;
use vqforge::train::{Console, Job, Session, step_scalars};

/// A run whose steps are taken apart, with its eyes on the codebook of one head.
struct Trial {
    job: AutoencoderJob,
    session: Session,
    head: usize,
    k: usize,
    d: usize,
}

impl Trial {
    fn new(entries: &[&str], count: usize, head: usize) -> Self {
        let config = settings(entries);
        let (k, d) = (
            config.model.num_vq_embeddings,
            config.model.vq_embed_dim / config.quantiser.num_codebooks,
        );
        let (mut job, mut session) = run_of(config, images(count, count));
        ok(job.start(&mut session, &mut Console::new(true)));
        Trial { job, session, head, k, d }
    }

    fn gradient(&self) -> bool {
        self.session.config.quantiser.kind == QuantiserKind::Gradient
    }

    fn cosine(&self) -> bool {
        self.session.config.quantiser.distance == Distance::Cosine
    }

    /// Forward, backward, update.
    fn step(&mut self) {
        let Session { store, plan, config, step, .. } = &mut self.session;
        ok(self.job.feed(store, plan, *step, 0));
        let scalars = step_scalars(&config.train, *step, 0, RING_ROWS);
        ok(plan.run_lane(store, 0, &scalars));
    }

    /// What follows a step.
    fn after(&mut self) {
        let Session { store, plan, step, .. } = &mut self.session;
        ok(self.job.after(store, plan, *step));
        self.session.step += 1;
    }

    fn state(&mut self, name: &str) -> Vec<f32> {
        state(&mut self.session, &of_head(name, self.head))
    }

    fn set_state(&mut self, name: &str, data: &[f32]) {
        let range = ok(self.session.store.find_state(&of_head(name, self.head)));
        ok(self.session.store.write_f32(range, data));
    }

    fn param(&mut self, kind: Kind) -> Vec<f32> {
        assert_eq!(self.head, 0);
        let index = self.session.store.table().find(CODEBOOK_PARAM).expect("a codebook");
        ok(self.session.store.read_param(kind, index))
    }

    fn set_param(&mut self, kind: Kind, data: &[f32]) {
        let index = self.session.store.table().find(CODEBOOK_PARAM).expect("a codebook");
        ok(self.session.store.write_param(kind, index, data));
    }

    fn codes(&mut self) -> Vec<f32> {
        if self.gradient() { self.param(Kind::Param) } else { self.state(CODEBOOK) }
    }

    /// Puts codes where no latent chooses them: far away, or in no direction. Their counts stay.
    fn bury(&mut self, dead: &[usize]) {
        let far = if self.cosine() { 0.0 } else { 100.0 };
        let (mut codes, d) = (self.codes(), self.d);
        dead.iter().for_each(|i| codes[i * d..(i + 1) * d].fill(far));
        if self.gradient() {
            self.set_param(Kind::Param, &codes);
            return;
        }
        self.set_state(CODEBOOK, &codes);
        let (n, mut m) = (self.state(EMA_N), self.state(EMA_M));
        dead.iter().for_each(|&i| m[i * d..(i + 1) * d].fill(n[i] * far));
        self.set_state(EMA_M, &m);
    }

    /// How often the step chose each code.
    fn chosen(&mut self) -> Vec<f32> {
        let range = ok(self.session.plan.sum(&of_head("code_counts", self.head)));
        ok(self.session.store.read_f32(range))
    }

    fn output(&mut self, name: &str) -> Vec<f32> {
        let range = ok(self.session.plan.output(&of_head(name, self.head)));
        ok(self.session.store.read_f32(range))
    }

    /// Mean counts a step since the last check, newer steps weighing more.
    fn recent(&self, counts: &[Vec<f32>]) -> Vec<f64> {
        let decay = self.session.config.quantiser.ema_decay;
        let step = |all: Vec<f64>, counts: &Vec<f32>| {
            all.iter().zip(counts).map(|(a, &c)| decay * a + (1.0 - decay) * f64::from(c)).collect()
        };
        let sum: Vec<f64> = counts.iter().fold(vec![0.0; self.k], step);
        let weight = 1.0 - decay.powi(counts.len() as i32);
        sum.into_iter().map(|s| s / weight).collect()
    }

    fn row<'a>(&self, all: &'a [f32], i: usize) -> &'a [f32] {
        &all[i * self.d..(i + 1) * self.d]
    }

    /// The row of `z` next to a revived code, no further than the jitter of a hundredth of the
    /// latents' spread in every channel may be in five deviations, twice that where the length is
    /// mended.
    fn came_from(&self, code: &[f32], z: &[f32]) -> usize {
        let distance = |row: &[f32]| {
            row.iter().zip(code).map(|(&z, &e)| (f64::from(z) - f64::from(e)).powi(2)).sum::<f64>()
        };
        let rows = z.chunks_exact(self.d).map(distance).enumerate();
        let (row, d2) = rows.min_by(|a, b| a.1.total_cmp(&b.1)).expect("a row");
        let spread = length(z) / (z.len() as f64).sqrt();
        let jitter = 0.01 * spread * 5.0 * (self.d as f64).sqrt();
        let reach = if self.cosine() { 2.0 * jitter } else { jitter };
        assert!(d2.sqrt() <= reach, "{code:?} is {} from the next latent", d2.sqrt());
        row
    }
}

const TAU: &[&str] = &["revive_every=4", "revive_threshold=0.3"];
/// tau: 0.3 of 6 x 4 tokens on 12 codes.
const DEAD_BELOW: f32 = 0.6;

/// Two codes that nothing chooses any more move to latents at the check, and are chosen in the next
/// step, which sees the same images; whatever else is known about them is forgotten. No other code is
/// touched.
#[test]
fn a_dead_code_lives_again() {
    for (entries, head) in [
        (&[] as &[&str], 0),
        (&["kind=gradient"], 0),
        (&["distance=cosine"], 0),
        (&["kind=gradient", "distance=cosine"], 0),
        (&["residual_levels=2"], 1),
        (&["num_codebooks=2"], 1),
    ] {
        let mut trial = Trial::new(&[entries, TAU].concat(), 7, head);
        let (k, d, what) = (trial.k, trial.d, format!("{entries:?}"));
        let victims = [2, 9];
        trial.bury(&victims);
        let mut counts = vec![];
        for step in 0..4 {
            if trial.gradient() && step == 3 {
                for kind in [Kind::M, Kind::V] {
                    trial.set_param(kind, &vec![0.5; k * d]);
                }
            }
            trial.step();
            let chosen = trial.chosen();
            assert_eq!(chosen.iter().sum::<f32>(), 24.0, "{what}");
            victims.iter().for_each(|&i| assert_eq!(chosen[i], 0.0, "{what}: {i} is not dead"));
            counts.push(chosen);
            if step < 3 {
                let before = trial.codes();
                trial.after();
                assert_eq!(trial.codes(), before, "{what}: a check before its time");
            }
        }
        let recent = trial.recent(&counts);
        let close = recent.iter().any(|r| (r - f64::from(DEAD_BELOW)).abs() < 1e-3);
        assert!(!close, "{what}: {recent:?} leaves in doubt who is dead");
        let dead: Vec<usize> = (0..k).filter(|&i| recent[i] < DEAD_BELOW.into()).collect();
        let moving = trial.state(EMA_N);
        for i in victims {
            assert!(dead.contains(&i) && dead.len() < k, "{what}");
            assert!(moving[i] > DEAD_BELOW, "{what}: the moving count itself would do");
        }

        let old = trial.codes();
        let old_m = if trial.gradient() { vec![] } else { trial.state(EMA_M) };
        let z = trial.output("z");
        trial.after();
        let (new, n, checked) = (trial.codes(), trial.state(EMA_N), trial.state("ema_n_checked"));
        assert_eq!(n, checked, "{what}");
        let mut rows = vec![];
        for i in 0..k {
            let (now, before) = (trial.row(&new, i), trial.row(&old, i));
            if !dead.contains(&i) {
                assert_eq!((now, n[i]), (before, moving[i]), "{what}: {i} is alive");
                continue;
            }
            rows.push(trial.came_from(now, &z));
            assert_eq!(n[i], DEAD_BELOW, "{what}: counts of {i}");
            if trial.cosine() {
                assert!((length(now) - 1.0).abs() <= 2.0 * U, "{what}: length {}", length(now));
            }
        }
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), dead.len(), "{what}: two codes took one latent");
        if trial.gradient() {
            let [m, v, average] = [Kind::M, Kind::V, Kind::Ema].map(|kind| trial.param(kind));
            for i in 0..k {
                let forgotten = trial.row(&m, i).iter().chain(trial.row(&v, i)).all(|&x| x == 0.0);
                assert_eq!(forgotten, dead.contains(&i), "{what}: Adam's moments of {i}");
                let same = trial.row(&average, i) == trial.row(&new, i);
                assert!(same || !dead.contains(&i), "{what}: the average of {i}");
            }
        } else {
            let m = trial.state(EMA_M);
            for i in 0..k * d {
                let want = if dead.contains(&(i / d)) { DEAD_BELOW * new[i] } else { old_m[i] };
                assert_eq!(m[i], want, "{what}: m of {}", i / d);
            }
        }
        trial.step();
        let chosen = trial.chosen();
        dead.iter()
            .for_each(|&i| assert!(chosen[i] > 0.0, "{what}: {i} of {dead:?} is dead again"));
    }
}

/// Towards the end of a run codes are left alone.
#[test]
fn nothing_moves_after_the_stop() {
    let late = ["train.steps=10", "revive_stop=0.4"];
    for (stop, moves) in [(late, false), (["train.steps=10", "revive_stop=0.41"], true)] {
        let mut trial = Trial::new(&[&stop, TAU].concat(), 7, 0);
        trial.bury(&[2]);
        for _ in 0..3 {
            trial.step();
            trial.after();
        }
        trial.step();
        let before = trial.codes();
        trial.after();
        assert_eq!(trial.codes() != before, moves, "{stop:?}");
    }
}

/// While the rate rises codes are left alone, too. The first check after that looks at what was chosen
/// since the last one before it, not since the start.
#[test]
fn nothing_moves_during_the_warm_up() {
    for (warmup, moves) in [("train.warmup=4", false), ("train.warmup=3", true)] {
        let mut trial = Trial::new(&[&[warmup], TAU].concat(), 7, 0);
        trial.bury(&[2]);
        for _ in 0..3 {
            trial.step();
            trial.after();
        }
        trial.step();
        let before = trial.codes();
        trial.after();
        assert_eq!(trial.codes() != before, moves, "{warmup}");
        let (n, checked) = (trial.state(EMA_N), trial.state("ema_n_checked"));
        assert_eq!(n, checked, "{warmup}");
    }
}

/// Where only directions count, codes stay of length 1: those that moved and those that did not.
#[test]
fn directions_keep_their_length() {
    let mut trial = Trial::new(&["distance=cosine", "revive_every=0"], 25, 0);
    let start = trial.codes();
    for step in 0..=6 {
        // A sum of d squares, a root (3 units in WGSL) and a division.
        let codes = trial.codes();
        for code in codes.chunks_exact(trial.d) {
            let off = (length(code) - 1.0).abs();
            assert!(off <= (trial.d + 8) as f64 * U, "step {step}: length 1 {off:+.1e}");
        }
        assert!(step == 0 || codes != start, "nothing moves");
        trial.step();
        trial.after();
    }
}

/// The reservoir takes a share of the latents of each of the last steps before the check, and dead
/// codes move to latents of several of them.
#[test]
fn a_reservoir_of_several_steps() {
    const STEPS: usize = 3;
    let entries = ["revive_every=5", "revive_threshold=0.3", "revive_reservoir=3", "train.batch=4"];
    let mut trial = Trial::new(&entries, 25, 0);
    let d = trial.d;
    let victims: Vec<usize> = (0..10).collect();
    trial.bury(&victims);
    // 16 latents a step.
    let share = 16usize.div_ceil(STEPS);
    let mut seen = vec![];
    for step in 0..5 {
        trial.step();
        seen.push((trial.output("z"), trial.output("d2")));
        if step < 4 {
            trial.after();
        }
        let gathered = trial.session.store.find_state("reservoir_18").is_ok();
        assert_eq!(gathered, step >= 2, "step {step}");
    }
    trial.after();
    let (kept, d2) = (trial.state("reservoir_18"), trial.state("reservoir_d2_18"));
    assert_eq!((kept.len(), d2.len()), (STEPS * share * d, STEPS * share));
    for turn in 0..STEPS {
        let (z, distances) = &seen[4 - turn];
        let mut rows = vec![];
        for (at, &distance) in d2.iter().enumerate().skip(turn * share).take(share) {
            let found = z.chunks_exact(d).position(|row| row == trial.row(&kept, at));
            let row = found.unwrap_or_else(|| panic!("{at} is no latent of step {}", 4 - turn));
            assert_eq!(distance, distances[row]);
            rows.push(row);
        }
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), share, "latents were gathered twice");
    }
    let new = trial.codes();
    let moved = victims.iter().filter(|&&i| trial.row(&new, i)[0] < 50.0);
    let mut from: Vec<usize> = moved.map(|&i| trial.came_from(trial.row(&new, i), &kept)).collect();
    assert_eq!(from.len(), STEPS * share / 2, "as many as half of the reservoir");
    from.sort_unstable();
    from.dedup();
    assert_eq!(from.len(), STEPS * share / 2, "two codes took one latent");
    let mut turns: Vec<_> = from.iter().map(|row| row / share).collect();
    turns.dedup();
    assert!(turns.len() > 1, "all come from one step");
}
