//! Samplers. The network runs on the device and draws x0 ~ p(x0 | xt) for every token; which tokens
//! to keep is decided here, with counter-based draws, from a few integers a step.

use super::{Chain, Corruption, Schedule};
use crate::error::{Error, Result};
use crate::rng::{Rng, Stream};

/// What a sampler needs of a network.
pub trait TokenModel {
    /// One draw of x0 for every token of `xt` (masked or not) and its log-probability. `round`
    /// distinguishes the draws of one sampling run; `time` is the step of a chain, else 0.
    fn draw(&mut self, xt: &[u32], round: u32, time: u32) -> Result<(Vec<u32>, Vec<f32>)>;
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampler {
    /// The strided posterior of the corruption: exact for any number of steps as far as one step's
    /// tokens are independent given xt.
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
pub struct Run<'a> {
    pub sampler: Sampler,
    pub corruption: &'a Corruption,
    pub steps: usize,
    pub samples: usize,
    pub length: usize,
    /// The mask token, K.
    pub mask: u32,
    pub seed: u64,
    /// Global index of the first sample, so that a large run can be made in parts.
    pub first: u64,
}

impl Run<'_> {
    /// From all masks to codes: `samples * length` tokens.
    pub fn sample(&self, model: &mut dyn TokenModel) -> Result<Vec<u32>> {
        if self.steps == 0 {
            return Err(
                Error::usage("a sampler needs at least one step").help("use --steps 1 or more")
            );
        }
        match self.corruption {
            Corruption::Masked(schedule) => self.unmask(*schedule, model),
            Corruption::Chain(chain) => self.walk_back(chain, model),
        }
    }

    /// x0 for every token, and its log-probability.
    fn ask(
        &self,
        model: &mut dyn TokenModel,
        x: &[u32],
        step: usize,
        time: usize,
    ) -> Result<(Vec<u32>, Vec<f32>)> {
        let (drawn, logp) = model.draw(x, step as u32, time as u32)?;
        if drawn.len() != x.len() || logp.len() != x.len() {
            return Err(Error::failed("the network returned another number of tokens"));
        }
        Ok((drawn, logp))
    }

    fn unmask(&self, schedule: Schedule, model: &mut dyn TokenModel) -> Result<Vec<u32>> {
        let mut x = vec![self.mask; self.samples * self.length];
        for step in 0..self.steps {
            let (drawn, logp) = self.ask(model, &x, step, 0)?;
            for sample in 0..self.samples {
                let at = sample * self.length..(sample + 1) * self.length;
                let (x, drawn, logp) = (&mut x[at.clone()], &drawn[at.clone()], &logp[at]);
                let mut rng = self.rng(sample, step);
                match self.sampler {
                    Sampler::Ancestral => self.ancestral(x, drawn, schedule, step, &mut rng),
                    Sampler::MaskGit { tau } => self.maskgit(x, drawn, logp, step, tau, &mut rng),
                }
            }
        }
        Ok(x)
    }

    /// Ancestral steps of a chain: x_s ~ q(x_s | x_t, x_0) with x_0 ~ p(x_0 | x_t).
    fn walk_back(&self, chain: &Chain, model: &mut dyn TokenModel) -> Result<Vec<u32>> {
        if self.sampler != Sampler::Ancestral {
            return Err(Error::usage("this sampler only knows masks that become codes")
                .why("the diffusion was trained with codes that become other codes, in steps")
                .help("use --sampler ancestral"));
        }
        if self.steps > chain.steps() {
            return Err(Error::usage(format!("{} steps are too many", self.steps))
                .why(format!("the chain was trained with {}", chain.steps()))
                .help(format!("use --steps {} or fewer", chain.steps())));
        }
        let (codes, prior) = (chain.codes(), chain.prior());
        let mut x = vec![];
        for sample in 0..self.samples {
            // A stream that no step has.
            let mut rng = self.rng(sample, (1 << 20) - 1);
            x.extend((0..self.length).map(|_| {
                let mut u = rng.uniform();
                let drawn = prior.iter().position(|p| {
                    u -= p;
                    u < 0.0
                });
                // What rounding leaves over is the likeliest: the mask, if there is one.
                drawn.unwrap_or(if prior[codes] > 0.0 { codes } else { codes - 1 }) as u32
            }));
        }
        for (round, (s, t)) in chain.strided(self.steps).into_iter().enumerate() {
            let (drawn, _) = self.ask(model, &x, round, t)?;
            let step = chain.step(s, t);
            for sample in 0..self.samples {
                let mut rng = self.rng(sample, round);
                for i in sample * self.length..(sample + 1) * self.length {
                    let (state, code) = (x[i] as usize, drawn[i] as usize);
                    x[i] = step.draw(state, code, codes, rng.uniform()) as u32;
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
    fn ancestral(
        &self,
        x: &mut [u32],
        drawn: &[u32],
        schedule: Schedule,
        step: usize,
        rng: &mut Rng,
    ) {
        let (t, s) = (self.time(step), self.time(step + 1));
        let last = step + 1 == self.steps;
        let stay = schedule.masked(s) / schedule.masked(t);
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
        fn draw(&mut self, xt: &[u32], round: u32, _: u32) -> Result<(Vec<u32>, Vec<f32>)> {
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
            corruption: &Corruption::Masked(Schedule(schedule)),
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

    /// The exact network of one token of a known law under a chain.
    struct OneToken<'a> {
        law: &'a [f64],
        chain: &'a Chain,
    }

    impl TokenModel for OneToken<'_> {
        fn draw(&mut self, xt: &[u32], round: u32, time: u32) -> Result<(Vec<u32>, Vec<f32>)> {
            let marginal = self.chain.marginal(Some(time as usize));
            let (k, mut tokens) = (self.law.len(), vec![]);
            for (i, &x) in xt.iter().enumerate() {
                let joint = |c: usize| self.law[c] * marginal.of(x as usize, c, k);
                let total: f64 = (0..k).map(joint).sum();
                let draw = (i as u64) << 12 | u64::from(round);
                let mut u = total * Rng::new(5, Stream::Test, draw).uniform();
                let code = (0..k).position(|c| {
                    u -= joint(c);
                    u < 0.0
                });
                tokens.push(code.unwrap_or(k - 1) as u32);
            }
            Ok((tokens, vec![0.0; xt.len()]))
        }
    }

    /// Ancestral steps of a chain end in the law of the data, in as few steps as one likes. (The chains
    /// that do not quite end in their prior are off by at most alpha_T = 9e-6.)
    #[test]
    fn chains_end_in_the_law_of_one_token() {
        let law = [0.4, 0.05, 0.25, 0.3];
        let samples = 40_000;
        for chain in [
            Chain::released(4, 40),
            Chain::published(4, 40),
            Chain::absorbing(4, 40),
            Chain::uniform(4, 40),
        ] {
            let chain = chain.unwrap();
            let mut model = OneToken { law: &law, chain: &chain };
            for steps in [1, 4, 10, 20, 40] {
                let run = Run {
                    sampler: Sampler::Ancestral,
                    corruption: &Corruption::Chain(chain.clone()),
                    steps,
                    samples,
                    length: 1,
                    mask: 4,
                    seed: 1,
                    first: 0,
                };
                let mut counts = [0.0; 5];
                run.sample(&mut model).unwrap().iter().for_each(|&x| counts[x as usize] += 1.0);
                for (count, p) in counts.iter().zip(law.iter().chain(&[0.0])) {
                    // Five standard errors of a frequency.
                    let bound =
                        5.0 * (p * (1.0 - p) * samples as f64).sqrt() + 9e-6 * samples as f64;
                    let off = (count - p * samples as f64).abs();
                    assert!(off <= bound, "{steps} steps of {chain:?}: {counts:?}");
                }
            }
        }
    }

    #[test]
    fn what_a_chain_cannot_do() {
        let chain = Chain::uniform(4, 10).unwrap();
        let run = |sampler, steps| {
            let corruption = &Corruption::Chain(chain.clone());
            let run = Run {
                sampler,
                corruption,
                steps,
                samples: 1,
                length: 1,
                mask: 4,
                seed: 1,
                first: 0,
            };
            let law = [0.25; 4];
            run.sample(&mut OneToken { law: &law, chain: &chain }).map_err(|e| e.to_string())
        };
        assert!(run(Sampler::MaskGit { tau: 1.0 }, 4).unwrap_err().contains("ancestral"));
        assert!(run(Sampler::Ancestral, 11).unwrap_err().contains("--steps 10"));
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
                    corruption: &Corruption::Masked(Schedule(NoiseSchedule::Linear)),
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
