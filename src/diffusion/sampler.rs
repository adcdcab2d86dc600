//! Samplers. The network runs on the device and draws x0 ~ p(x0 | xt) for every token; which tokens
//! to keep is decided here, with counter-based draws, from a few integers a step.

use super::Schedule;
use crate::error::{Error, Result};
use crate::rng::{Rng, Stream};

/// What a sampler needs of a network.
pub trait TokenModel {
    /// One draw of x0 for every token of `xt` (masked or not) and its log-probability. `round`
    /// distinguishes the draws of one sampling run.
    fn draw(&mut self, xt: &[u32], round: u32) -> Result<(Vec<u32>, Vec<f32>)>;
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampler {
    /// The strided posterior of the absorbing chain: exact for any number of steps as far as one
    /// step's tokens are independent given xt.
    Ancestral,
    /// Confidence-ordered decoding (MaskGIT, 2202.04200) with Gumbel noise of scale `tau` that
    /// fades over the run.
    MaskGit { tau: f64 },
}

impl Sampler {
    pub const NAMES: [&'static str; 2] = ["ancestral", "maskgit"];

    /// # Errors
    /// An unknown name, with the valid ones.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "ancestral" => Ok(Sampler::Ancestral),
            "maskgit" => Ok(Sampler::MaskGit { tau: 4.5 }),
            _ => Err(Error::usage(format!("no sampler is called {name}"))
                .help(format!("use one of: {}", Self::NAMES.join(", ")))),
        }
    }

    /// Steps where the user gives none.
    pub fn default_steps(self) -> usize {
        match self {
            Sampler::Ancestral => 32,
            Sampler::MaskGit { .. } => 12,
        }
    }
}

/// A sampling run over `samples` grids of `length` tokens.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    pub sampler: Sampler,
    pub schedule: Schedule,
    pub steps: usize,
    pub samples: usize,
    pub length: usize,
    /// The mask token, K.
    pub mask: u32,
    pub seed: u64,
    /// Global index of the first sample, so that a large run can be made in parts.
    pub first: u64,
}

impl Run {
    /// From all masks to codes: `samples * length` tokens.
    pub fn sample(&self, model: &mut dyn TokenModel) -> Result<Vec<u32>> {
        if self.steps == 0 {
            return Err(
                Error::usage("a sampler needs at least one step").help("use --steps 1 or more")
            );
        }
        let mut x = vec![self.mask; self.samples * self.length];
        for step in 0..self.steps {
            let (drawn, logp) = model.draw(&x, step as u32)?;
            if drawn.len() != x.len() || logp.len() != x.len() {
                return Err(Error::failed("the network returned another number of tokens"));
            }
            for sample in 0..self.samples {
                let at = sample * self.length..(sample + 1) * self.length;
                let (x, drawn, logp) = (&mut x[at.clone()], &drawn[at.clone()], &logp[at]);
                let mut rng = self.rng(sample, step);
                match self.sampler {
                    Sampler::Ancestral => self.ancestral(x, drawn, step, &mut rng),
                    Sampler::MaskGit { tau } => self.maskgit(x, drawn, logp, step, tau, &mut rng),
                }
            }
        }
        Ok(x)
    }

    fn rng(&self, sample: usize, step: usize) -> Rng {
        // One stream a (sample, step): 2^20 steps are room enough.
        Rng::new(self.seed, Stream::Unmask, ((self.first + sample as u64) << 20) | step as u64)
    }

    /// Time grid from 1 to 0: uniform for the linear schedule, and the cosine schedule has its own
    /// slow end built in.
    fn time(&self, step: usize) -> f64 {
        1.0 - step as f64 / self.steps as f64
    }

    /// A masked token becomes visible between t and s < t with probability
    /// (alpha_s - alpha_t) / (1 - alpha_t); a visible one stays what it is.
    fn ancestral(&self, x: &mut [u32], drawn: &[u32], step: usize, rng: &mut Rng) {
        let (t, s) = (self.time(step), self.time(step + 1));
        let last = step + 1 == self.steps;
        let stay = self.schedule.masked(s) / self.schedule.masked(t);
        for (x, &token) in x.iter_mut().zip(drawn) {
            // The draw is made for every token, so that caching cannot change the others'.
            let u = rng.uniform();
            if *x == self.mask && (last || u >= stay) {
                *x = token;
            }
        }
    }

    /// Keeps the most confident draws: after step i of T, floor(N cos(pi r / 2)) tokens, r = (i+1)/T,
    /// stay masked, at least one and at most all but one until the last step.
    fn maskgit(
        &self,
        x: &mut [u32],
        drawn: &[u32],
        logp: &[f32],
        step: usize,
        tau: f64,
        rng: &mut Rng,
    ) {
        let unknown: Vec<usize> = (0..x.len()).filter(|&i| x[i] == self.mask).collect();
        if unknown.is_empty() {
            return;
        }
        let r = (step + 1) as f64 / self.steps as f64;
        let mut remain =
            (x.len() as f64 * (std::f64::consts::FRAC_PI_2 * r).cos()).floor() as usize;
        remain = if step + 1 == self.steps { 0 } else { remain.clamp(1, unknown.len()) };
        remain = remain.min(unknown.len().saturating_sub(1)).min(unknown.len());
        let mut confidence: Vec<(f64, usize)> = unknown
            .iter()
            .map(|&i| {
                let gumbel = -rng.exponential().ln();
                (f64::from(logp[i]) + tau * (1.0 - r) * gumbel, i)
            })
            .collect();
        confidence.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for &(_, i) in &confidence[..unknown.len() - remain] {
            x[i] = drawn[i];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NoiseSchedule;

    /// The exact network of a known law over two dependent tokens of K = 3 codes.
    struct Exact {
        joint: [[f64; 3]; 3],
        samples: usize,
    }

    impl TokenModel for Exact {
        fn draw(&mut self, xt: &[u32], round: u32) -> Result<(Vec<u32>, Vec<f32>)> {
            let (mut tokens, mut logp) = (vec![], vec![]);
            for s in 0..self.samples {
                let pair = [xt[2 * s], xt[2 * s + 1]];
                for side in 0..2 {
                    let mut p: Vec<f64> = (0..3)
                        .map(|k| {
                            (0..3)
                                .filter(|&o| pair[1 - side] == 3 || pair[1 - side] == o)
                                .map(|o| {
                                    let (k, o) = (k as usize, o as usize);
                                    if side == 0 { self.joint[k][o] } else { self.joint[o][k] }
                                })
                                .sum()
                        })
                        .collect();
                    let total: f64 = p.iter().sum();
                    p.iter_mut().for_each(|v| *v /= total);
                    let mut rng =
                        Rng::new(5, Stream::Test, (s * 2 + side) as u64 * 4096 + u64::from(round));
                    let mut u = rng.uniform();
                    let k = p.iter().position(|v| {
                        u -= v;
                        u < 0.0
                    });
                    let k = k.unwrap_or(2);
                    tokens.push(k as u32);
                    logp.push(p[k].ln() as f32);
                }
            }
            Ok((tokens, logp))
        }
    }

    const JOINT: [[f64; 3]; 3] = [[0.30, 0.02, 0.08], [0.05, 0.20, 0.05], [0.02, 0.08, 0.20]];

    fn law(
        sampler: Sampler,
        schedule: NoiseSchedule,
        steps: usize,
        samples: usize,
    ) -> [[f64; 3]; 3] {
        let run = Run {
            sampler,
            schedule: Schedule(schedule),
            steps,
            samples,
            length: 2,
            mask: 3,
            seed: 1,
            first: 0,
        };
        let x = run.sample(&mut Exact { joint: JOINT, samples }).unwrap();
        let mut counts = [[0.0; 3]; 3];
        for pair in x.chunks(2) {
            counts[pair[0] as usize][pair[1] as usize] += 1.0 / samples as f64;
        }
        counts
    }

    /// The law of the ancestral chain, by enumeration: with probability p_both the two tokens are
    /// unmasked in one step and are then independent; otherwise they follow the joint law.
    fn ancestral_law(schedule: NoiseSchedule, steps: usize) -> [[f64; 3]; 3] {
        let schedule = Schedule(schedule);
        let masked = |i: usize| schedule.masked(1.0 - i as f64 / steps as f64);
        let together: f64 = (0..steps).map(|i| (masked(i) - masked(i + 1)).powi(2)).sum();
        let row: Vec<f64> = (0..3).map(|i| JOINT[i].iter().sum()).collect();
        let col: Vec<f64> = (0..3).map(|j| JOINT.iter().map(|r| r[j]).sum()).collect();
        let mut law = [[0.0; 3]; 3];
        for i in 0..3 {
            for j in 0..3 {
                law[i][j] = together * row[i] * col[j] + (1.0 - together) * JOINT[i][j];
            }
        }
        law
    }

    #[test]
    fn ancestral_reproduces_its_own_law() {
        let samples = 40_000;
        for schedule in [NoiseSchedule::Linear, NoiseSchedule::Cosine] {
            for steps in [1, 2, 4, 10] {
                let (got, want) = (
                    law(Sampler::Ancestral, schedule, steps, samples),
                    ancestral_law(schedule, steps),
                );
                for (g, w) in got.iter().flatten().zip(want.iter().flatten()) {
                    // Five standard errors of a frequency.
                    let bound = 5.0 * (w * (1.0 - w) / samples as f64).sqrt();
                    assert!((g - w).abs() < bound, "{schedule:?} {steps}: {got:?} {want:?}");
                }
            }
        }
    }

    /// MaskGIT over two tokens in two or more steps reveals one at a time: the joint law, when the
    /// order does not depend on the draw (infinite noise).
    #[test]
    fn maskgit_one_token_a_step_is_exact() {
        let samples = 40_000;
        let got = law(Sampler::MaskGit { tau: 1e9 }, NoiseSchedule::Linear, 2, samples);
        for (g, w) in got.iter().flatten().zip(JOINT.iter().flatten()) {
            let bound = 5.0 * (w * (1.0 - w) / samples as f64).sqrt();
            assert!((g - w).abs() < bound, "{got:?}");
        }
    }

    #[test]
    fn every_sampler_finishes_and_repeats() {
        for sampler in [Sampler::Ancestral, Sampler::MaskGit { tau: 4.5 }] {
            for steps in [1, 3, 50] {
                let run = Run {
                    sampler,
                    schedule: Schedule(NoiseSchedule::Linear),
                    steps,
                    samples: 7,
                    length: 2,
                    mask: 3,
                    seed: 9,
                    first: 3,
                };
                let a = run.sample(&mut Exact { joint: JOINT, samples: 7 }).unwrap();
                let b = run.sample(&mut Exact { joint: JOINT, samples: 7 }).unwrap();
                assert!(a == b && a.iter().all(|&x| x < 3));
            }
        }
        assert_eq!(Sampler::parse("gibbs").unwrap_err().exit_code(), 2);
    }
}
