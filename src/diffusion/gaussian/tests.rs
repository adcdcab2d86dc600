//! The maths against brute force, and the sampler against data whose best denoiser is known.

use super::*;
use crate::error::Result;

/// Times in pairs s < t, the ends included.
fn pairs() -> impl Iterator<Item = (f64, f64)> {
    let grid = |i: usize| i as f64 / 16.0;
    (0..=16).flat_map(move |t| (0..t).map(move |s| (grid(s), grid(t))))
}

/// Of sums of a few products of numbers of size 1 in f64, divisions by 0.1 at the smallest sigma included.
const CLOSE: f64 = 1e-13;

#[test]
fn velocity_and_state_are_a_rotation() {
    assert_eq!((alpha(0.0), sigma(0.0), sigma(1.0)), (1.0, 0.0, 1.0));
    for i in 0..=64 {
        let (a, s) = (alpha(f64::from(i) / 64.0), sigma(f64::from(i) / 64.0));
        assert!((a * a + s * s - 1.0).abs() < CLOSE, "variance is not preserved");
        let (x, eps) = (0.7, -1.3);
        let (x_t, v) = (a * x + s * eps, a * eps - s * x);
        assert!((a * x_t - s * v - x).abs() < CLOSE && (s * x_t + a * v - eps).abs() < CLOSE);
    }
}

/// With eta = 1 a step is the posterior q(x_s | x_t, x), from Bayes' rule: the product of the Gaussians
/// q(x_t | x_s) and q(x_s | x), their precisions added. With any eta it keeps the marginal of time s.
#[test]
fn steps_are_posteriors() {
    for (s, t) in pairs().filter(|(s, _)| *s > 0.0) {
        let [a_s, s_s, a_t, s_t] = [alpha(s), sigma(s), alpha(t), sigma(t)];
        let ratio = a_t / a_s;
        let fresh = s_t * s_t - ratio * ratio * s_s * s_s;
        let variance = 1.0 / (ratio * ratio / fresh + 1.0 / (s_s * s_s));
        let (x, x_t) = (0.4, -0.9);
        let mean = variance * (ratio * x_t / fresh + a_s * x / (s_s * s_s));
        let step = Step::between(s, t, 1.0);
        let got = step.state * x_t + step.velocity * (a_t * x_t - x) / s_t;
        assert!((got - mean).abs() < CLOSE, "{s} {t}: mean {got}, want {mean}");
        assert!((step.noise.powi(2) - variance).abs() < CLOSE, "{s} {t}: variance");
        for eta in [0.0, 0.3, 1.0] {
            // x_t = alpha x + sigma eps and v in terms of x and eps.
            let step = Step::between(s, t, eta);
            let of_x = step.state * a_t - step.velocity * s_t;
            let of_eps = step.state * s_t + step.velocity * a_t;
            assert!((of_x - a_s).abs() < CLOSE, "{s} {t} {eta}");
            let spread = of_eps.powi(2) + step.noise.powi(2);
            assert!((spread - s_s * s_s).abs() < CLOSE, "{s} {t} {eta}");
        }
    }
}

/// The last step is the network's x itself, the first takes nothing from the noise's future.
#[test]
fn the_ends_of_time() {
    let last = Step::between(0.0, 0.25, 1.0);
    assert_eq!(last, Step { state: alpha(0.25), velocity: -sigma(0.25), noise: 0.0 });
    let turn = Step::between(0.5, 0.75, 0.0);
    // Without noise a step is a turn by the difference of the angles.
    assert!((turn.state - alpha(0.25)).abs() < CLOSE);
    assert!((turn.velocity + sigma(0.25)).abs() < CLOSE);
    let first = Step::between(0.5, 1.0, 1.0);
    assert!((first.velocity + alpha(0.5)).abs() < CLOSE && first.state.abs() < CLOSE);
    assert!((first.noise - sigma(0.5)).abs() < CLOSE);
}

#[test]
fn min_snr_by_its_definition() {
    for t in [0.01, 0.2, 0.5, 0.8, 0.99] {
        let snr = (alpha(t) / sigma(t)).powi(2);
        for gamma in [1.0, 5.0] {
            let want = snr.min(gamma) / (snr + 1.0);
            assert!((min_snr_weight(t, gamma) - want).abs() < CLOSE * want.max(1.0));
        }
    }
    assert_eq!(
        (min_snr_weight(0.0, 5.0), min_snr_weight(0.5, f64::INFINITY)),
        (0.0, alpha(0.5).powi(2))
    );
}

/// Data N(mean, deviation^2), whose best velocity E[v | x_t] is linear in x_t:
/// slope (x_t - alpha mean) - sigma mean with slope = alpha sigma (1 - deviation^2) / Var x_t.
#[derive(Debug, Clone, Copy)]
struct Normal {
    mean: f64,
    deviation: f64,
}

impl Normal {
    fn line(self, t: f64) -> [f64; 2] {
        let (a, s, variance) = (alpha(t), sigma(t), self.deviation.powi(2));
        let slope = a * s * (1.0 - variance) / (a * a * variance + s * s);
        [slope, -slope * a * self.mean - s * self.mean]
    }

    /// Mean and variance of what a sampler makes of it: both go through the linear steps exactly.
    fn made(self, steps: usize, eta: f64) -> [f64; 2] {
        let (mut mean, mut variance) = (0.0, 1.0);
        for i in 0..steps {
            let t = |i: usize| 1.0 - i as f64 / steps as f64;
            let (step, [slope, offset]) = (Step::between(t(i + 1), t(i), eta), self.line(t(i)));
            let factor = step.state + step.velocity * slope;
            mean = factor * mean + step.velocity * offset;
            variance = factor * factor * variance + step.noise * step.noise;
        }
        [mean, variance]
    }
}

impl VelocityModel for Normal {
    fn velocity(&mut self, x: &[f32], _: usize, time: f64) -> Result<Vec<f32>> {
        let [slope, offset] = self.line(time);
        Ok(x.iter().map(|&x| (slope * f64::from(x) + offset) as f32).collect())
    }
}

const DATA: [Normal; 3] = [
    Normal { mean: 1.5, deviation: 0.5 },
    Normal { mean: -0.7, deviation: 1.0 },
    Normal { mean: 0.2, deviation: 1.6 },
];

/// The sampler's own law, by recursion, within Monte-Carlo error: five standard errors of mean and
/// variance of n normals. Rounding to f32, below 64 steps of 2^-24, is far less.
#[test]
fn samples_follow_the_recursion() {
    const N: usize = 40_000;
    for mut data in DATA {
        for (steps, eta) in
            [(4, 0.0), (16, 0.0), (64, 0.0), (4, 1.0), (16, 1.0), (64, 1.0), (16, 0.5)]
        {
            let run = Run { steps, eta, samples: N / 8, length: 8, seed: 3, first: 0 };
            let made = run.sample(&mut data).unwrap();
            let n = N as f64;
            let mean = made.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
            let variance =
                made.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / (n - 1.0);
            let [want, spread] = data.made(steps, eta);
            let (off, wide) = (mean - want, variance - spread);
            assert!(off.abs() < 5.0 * (spread / n).sqrt(), "{data:?} {steps} {eta}: {off}");
            assert!(wide.abs() < 5.0 * spread * (2.0 / n).sqrt(), "{data:?} {steps} {eta}: {wide}");
        }
    }
}

/// What a sampler makes becomes the data as its steps become more: the mean is right with any number, the
/// error of the variance is of first order, so that times the number of steps it has a limit, which the next
/// order, halved from 256 to 512 steps, moves by less than a twentieth.
#[test]
fn errors_fall_with_the_steps() {
    for data in DATA {
        for eta in [0.0, 1.0] {
            let error = |steps: usize| {
                let [mean, variance] = data.made(steps, eta);
                // Each step rounds the mean a few times.
                assert!((mean - data.mean).abs() < 4.0 * f64::EPSILON * steps as f64, "{mean}");
                variance - data.deviation.powi(2)
            };
            println!("{data:?} eta {eta}: {:?}", [4, 16, 64].map(error));
            let [at_256, at_512] = [256, 512].map(|n| n as f64 * error(n));
            assert!((at_256 / at_512 - 1.0).abs() < 0.05, "{data:?} {eta}: {at_256} {at_512}");
        }
    }
}

/// A sample is the same in any batch, and other seeds give other ones.
#[test]
fn samples_do_not_depend_on_the_batch() {
    let run = |samples, first, seed| {
        let run = Run { steps: 3, eta: 0.5, samples, length: 5, seed, first };
        run.sample(&mut DATA[0].clone()).unwrap()
    };
    assert_eq!(run(4, 0, 7), [run(3, 0, 7), run(1, 3, 7)].concat());
    assert_ne!(run(1, 0, 7), run(1, 1, 7));
    assert_ne!(run(1, 0, 7), run(1, 0, 8));
}

#[test]
fn runs_that_cannot_be() {
    struct Broken(f32, usize);
    impl VelocityModel for Broken {
        fn velocity(&mut self, x: &[f32], _: usize, _: f64) -> Result<Vec<f32>> {
            Ok(vec![self.0; x.len() + self.1])
        }
    }
    let run = Run { steps: 2, eta: 0.0, samples: 1, length: 3, seed: 0, first: 0 };
    assert!(run.sample(&mut Broken(0.0, 0)).is_ok());
    for (run, mut model, part) in [
        (Run { steps: 0, ..run }, Broken(0.0, 0), "at least one step"),
        (Run { eta: 1.5, ..run }, Broken(0.0, 0), "--eta 1.5"),
        (Run { eta: f64::NAN, ..run }, Broken(0.0, 0), "--eta NaN"),
        (run, Broken(f32::NAN, 0), "not finite"),
        (run, Broken(0.0, 1), "another number"),
    ] {
        let error = run.sample(&mut model).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

/// The samplers have one list of names; those of codes do not take this one.
#[test]
fn ddim_is_not_of_codes() {
    use crate::config::{NoiseSchedule, Process};
    use crate::diffusion::sampler::{self, Drawn, Pace, Question, Sampler, TokenModel};
    use crate::diffusion::{Corruption, Schedule};
    struct Never;
    impl TokenModel for Never {
        fn draw(&mut self, _: &Question<'_>) -> Result<Drawn> {
            panic!("the network was asked");
        }
    }
    let ddim = Sampler::parse("ddim").unwrap().with_eta(0.25).unwrap();
    assert_eq!(ddim, Sampler::Ddim { eta: 0.25 });
    let error = Sampler::Ancestral.with_eta(0.5).unwrap_err().to_string();
    assert!(error.contains("--eta 0.5"), "{error}");
    let run = sampler::Run {
        sampler: ddim,
        corruption: &Corruption::Masked(Schedule(NoiseSchedule::Linear)),
        pace: Pace::Trained,
        steps: 4,
        samples: 1,
        length: 4,
        cols: 2,
        mask: 8,
        seed: 0,
        first: 0,
        given: &[],
    };
    let error = run.sample(&mut Never).unwrap_err().to_string();
    assert!(error.contains("--sampler ancestral"), "{error}");
    let gaussian = crate::config::Diffusion { process: Process::Gaussian, ..<_>::default() };
    assert!(Corruption::new(&gaussian, 8).is_err());
}
