//! Steps drawn by the size of their losses: the law of the draws against its formula, the recorded chances
//! and histories of VQ-Diffusion, and sums that come out the same however steps are drawn.

use crate::device::{self, bits, floats, on_devices};
use crate::diffusion_fixtures::recorded;
use crate::registry::on_device;
use crate::rig::U;
use vqforge::device::Device;
use vqforge::kernels::draw_steps::DrawSteps;
use vqforge::kernels::loss_history::LossHistory;
use vqforge::kernels::posterior_loss::{NOISE, Noise};
use vqforge::kernels::sample_losses::SampleLosses;
use vqforge::kernels::{Case, Fill, StepScalars};

/// Times, and the factors of the bound and of the cross-entropy, which are 1 and 2 in the table.
fn draw(
    device: &mut dyn Device,
    history: &[f32],
    counts: &[f32],
    samples: usize,
    step: StepScalars,
) -> (Vec<usize>, Vec<[f32; 2]>) {
    let steps = history.len();
    let words = Noise { bound: 1.0, auxiliary: 2.0, ..Noise::of(&[0.0; NOISE], 0) }.words();
    let table = words.repeat(steps);
    let case = Case::new("draw", DrawSteps { samples, steps }, vec![]).with_step(step);
    let poison = |n| Fill::Poison.bits(n, 0);
    let given = [history, counts, &table].map(bits);
    let binds = [&given[..], &[poison(samples), poison(samples * NOISE)]].concat();
    let out = on_device(device, &case, &binds);
    let of = |words: &[f32]| {
        let noise = Noise::of(words, 0);
        [noise.bound, noise.auxiliary]
    };
    let factors = floats(&out[4]).chunks(NOISE).map(of).collect();
    (out[3].iter().map(|&t| t as usize).collect(), factors)
}

/// p_t by the formula.
fn chances(history: &[f32]) -> Vec<f64> {
    let root = |h: f32| (f64::from(h) + 1e-10).sqrt() + 1e-4;
    let mut weights: Vec<f64> = history.iter().map(|&h| root(h)).collect();
    weights[0] = weights[1];
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|w| w / total).collect()
}

/// Mean squares over six powers of ten, so that the rarest step is drawn a few times, the first step's far
/// from what it is drawn by.
fn unlike() -> Vec<f32> {
    (0..50).map(|t| if t == 0 { 1e9 } else { 10.0f32.powf((t * 13 % 50) as f32 / 8.0) }).collect()
}

const SAMPLES: usize = 1 << 16;

/// Pearson's statistic of draws against their chances. Its tail with d degrees of freedom: P(X > d + 2
/// sqrt(d x) + 2 x) < e^-x (Laurent & Massart 2000, lemma 1), here 1e-6.
fn follows(times: &[usize], chances: &[f64], place: &str) {
    let n = times.len() as f64;
    let mut counts = vec![0.0; chances.len()];
    times.iter().for_each(|&t| counts[t] += 1.0);
    // Steps too rare for the statistic count as one.
    let (mut statistic, mut cells, mut rare) = (0.0, 0.0, [0.0; 2]);
    let mut add = |count: f64, expected: f64| {
        statistic += (count - expected) * (count - expected) / expected;
        cells += 1.0;
    };
    for (&count, &p) in counts.iter().zip(chances) {
        match p * n >= 20.0 {
            true => add(count, p * n),
            false => rare = [rare[0] + count, rare[1] + p * n],
        }
    }
    if rare[1] > 0.0 {
        add(rare[0], rare[1]);
    }
    let (d, x): (f64, f64) = (cells - 1.0, 14.0);
    println!("{place}: {statistic:.1} of {d} degrees of freedom");
    assert!(statistic < d + 2.0 * (d * x).sqrt() + 2.0 * x, "{place}: {statistic} of {d}");
}

#[test]
fn steps_are_drawn_by_their_chances() {
    on_devices(|device| {
        let history = unlike();
        let place = device.kind();
        let step = StepScalars { seed_lo: 3, ..StepScalars::default() };
        let often = vec![11.0; history.len()];
        let (times, factors) = draw(device, &history, &often, SAMPLES, step);
        let p = chances(&history);
        follows(&times, &p, place);
        for (&t, &[bound, auxiliary]) in times.iter().zip(&factors) {
            // Roots, their sum in any order and a quotient, each with the rounding that WGSL allows.
            let error = f64::from(bound) * p[t] - 1.0;
            assert!(error.abs() < (50.0 + 30.0) * U, "{place}: {bound} of {}", p[t]);
            assert_eq!(auxiliary, 2.0 * bound);
        }
        // One step too few: all alike.
        let mut counts = often.clone();
        counts[31] = 10.0;
        let (times, factors) = draw(device, &history, &counts, SAMPLES, step);
        follows(&times, &[1.0 / 50.0; 50], place);
        assert!(factors.iter().all(|f| *f == [50.0, 100.0]));
    });
}

/// The mean of L_t / p_t over draws is the sum of all L_t, within five standard errors, whose size the
/// formula says; and it is what even draws have, by a larger factor the more unlike losses are.
#[test]
fn sums_do_not_depend_on_how_steps_are_drawn() {
    let mut device = device::cpu(0);
    let history = unlike();
    // Not the losses that the history tells of: they may have changed since.
    let losses: Vec<f64> = (0..50).map(|t| 1.0 + f64::from(t * 7 % 11)).collect();
    let sum: f64 = losses.iter().sum();
    for (counts, p) in [(11.0, chances(&history)), (0.0, vec![1.0 / 50.0; 50])] {
        let step = StepScalars { seed_lo: 8, ..StepScalars::default() };
        let (times, factors) = draw(&mut *device, &history, &[counts; 50], SAMPLES, step);
        let estimates = times.iter().zip(&factors).map(|(&t, f)| losses[t] * f64::from(f[0]));
        let mean = estimates.sum::<f64>() / SAMPLES as f64;
        let second: f64 = losses.iter().zip(&p).map(|(l, p)| l * l / p).sum();
        let error = ((second - sum * sum) / SAMPLES as f64).sqrt();
        println!("{mean} of {sum} +- {error}");
        assert!((mean - sum).abs() < 5.0 * error, "{mean} instead of {sum} +- {error}");
    }
}

/// Draws follow the number of the sample, and so do the losses that are learned from.
#[test]
fn lanes_are_parts_of_the_batch() {
    let mut device = device::cpu(0);
    let (batch, length) = (12, 5);
    let step = StepScalars { step: 3, sample_base: 36, seed_lo: 1, ..StepScalars::default() };
    let (history, often) = (unlike(), [11.0; 50]);
    let whole = draw(&mut *device, &history, &often, batch, step);
    let values = floats(&Fill::normal().bits(batch * length, 4));
    let mut gather = |first: usize, samples: usize| {
        let step = StepScalars { sample_base: step.sample_base + first as u32, ..step };
        let own = draw(&mut *device, &history, &often, samples, step);
        assert_eq!(own.0, whole.0[first..first + samples]);
        assert_eq!(own.1, whole.1[first..first + samples]);
        let kernel = SampleLosses { samples, length, batch };
        let case = Case::new("losses", kernel, vec![]).with_step(step);
        let times = own.0.iter().map(|&t| t as u32).collect();
        let tokens = &values[first * length..(first + samples) * length];
        let binds = vec![bits(tokens), times, Fill::Poison.bits(2 * batch, 0)];
        floats(&on_device(&mut *device, &case, &binds)[2])
    };
    let all = gather(0, batch);
    let parts = [gather(0, 4), gather(4, 4), gather(8, 4)];
    for (i, &want) in all.iter().enumerate() {
        assert_eq!((parts[0][i] + parts[1][i]) + parts[2][i], want, "place {i}");
    }
}

/// Chances and histories as microsoft/VQ-Diffusion had them.
#[test]
fn the_history_of_vq_diffusion() {
    let (fixture, cases) = recorded();
    on_devices(|device| {
        for case in &cases {
            let name = case["name"].as_str().expect("a name");
            let of = |tensor: &str| fixture.f32(&format!("{name}.{tensor}"));
            let (before, after, p) = (of("Lt_history"), of("Lt_history_new"), of("p_t_all"));
            let steps = before.len();
            for (t, (p, want)) in chances(&before).into_iter().zip(p).enumerate() {
                // Computed in f64 and recorded in f32.
                assert!((p - f64::from(want)).abs() <= 1.01 * U * p, "{name}: step {t}: {p}");
            }
            let (losses, times) = (of("kl_loss"), fixture.index(&format!("{name}.t")));
            let times: Vec<f32> = times.iter().map(|&t| t as f32).collect();
            let batch = losses.len();
            let case = Case::new(name, LossHistory { batch, steps }, vec![]);
            let losses = [losses, times.clone()].concat();
            let counts = vec![3.0; steps];
            let binds = [&losses[..], &[1.0; 4], &before, &counts].map(bits).to_vec();
            let out = on_device(device, &case, &binds);
            for (t, (got, want)) in floats(&out[2]).into_iter().zip(&after).enumerate() {
                // A loss that was rounded, twice; its products, their sum, .1 and .9; the record.
                let error = f64::from((got - want).abs());
                assert!(error <= 8.0 * U * f64::from(*want), "{name}: step {t}: {got} {want}");
            }
            for (t, got) in floats(&out[3]).into_iter().enumerate() {
                let draws = times.iter().filter(|&&time| time == t as f32).count();
                assert_eq!(got, 3.0 + draws as f32, "{name}: draws of step {t}");
            }
        }
    });
}
