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

fn law(sampler: Sampler, schedule: NoiseSchedule, steps: usize, samples: usize) -> [[f64; 3]; 3] {
    let run = Run {
        sampler,
        corruption: &Corruption::Masked(Schedule(schedule)),
        steps,
        samples,
        length: 2,
        cols: 2,
        mask: 3,
        seed: 1,
        first: 0,
        given: &[],
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
            let (got, want) =
                (law(Sampler::Ancestral, schedule, steps, samples), ancestral_law(schedule, steps));
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
                cols: 1,
                mask: 4,
                seed: 1,
                first: 0,
                given: &[],
            };
            let mut counts = [0.0; 5];
            run.sample(&mut model).unwrap().iter().for_each(|&x| counts[x as usize] += 1.0);
            for (count, p) in counts.iter().zip(law.iter().chain(&[0.0])) {
                // Five standard errors of a frequency.
                let bound = 5.0 * (p * (1.0 - p) * samples as f64).sqrt() + 9e-6 * samples as f64;
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
            cols: 1,
            mask: 4,
            seed: 1,
            first: 0,
            given: &[],
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
                cols: 2,
                mask: 3,
                seed: 9,
                first: 3,
                given: &[],
            };
            let a = run.sample(&mut Exact { joint: JOINT, samples: 7 }).unwrap();
            let b = run.sample(&mut Exact { joint: JOINT, samples: 7 }).unwrap();
            assert!(a == b && a.iter().all(|&x| x < 3));
        }
    }
    assert_eq!(Sampler::parse("gibbs").unwrap_err().exit_code(), 2);
}

/// Samplers that reveal one token a step, in an order that does not depend on what was drawn.
#[test]
fn one_token_a_step_is_exact() {
    let samples = 40_000;
    for sampler in [Sampler::FirstHitting, Sampler::Halton] {
        let got = law(sampler, NoiseSchedule::Linear, 2, samples);
        for (g, w) in got.iter().flatten().zip(JOINT.iter().flatten()) {
            let bound = 5.0 * (w * (1.0 - w) / samples as f64).sqrt();
            assert!((g - w).abs() < bound, "{sampler:?}: {got:?}");
        }
    }
}

/// The law of two tokens after a run of ReMDM, by enumeration of the chain over all 16 states.
fn remasking_law(schedule: NoiseSchedule, steps: usize, eta: f64) -> [[f64; 3]; 3] {
    let schedule = Schedule(schedule);
    let mut now = [[0.0; 4]; 4];
    now[3][3] = 1.0;
    for step in 0..steps {
        let time = |step: usize| 1.0 - step as f64 / steps as f64;
        let (t, s) = (time(step), time(step + 1));
        let (alpha_t, alpha_s) = (schedule.alpha(t), schedule.alpha(s));
        let sigma = if alpha_t > 0.0 { eta.min((1.0 - alpha_s) / alpha_t) } else { 0.0 };
        let reveal = (alpha_s - (1.0 - sigma) * alpha_t) / (1.0 - alpha_t);
        let mut next = [[0.0; 4]; 4];
        for (a, row) in now.iter().enumerate() {
            for (b, chance) in row.iter().enumerate() {
                // p(x0 | state) of either token.
                let given = |first: bool| {
                    let mut p = [0.0; 3];
                    for (k, p) in p.iter_mut().enumerate() {
                        let other = if first { b } else { a };
                        let joint = |o: usize| if first { JOINT[k][o] } else { JOINT[o][k] };
                        *p = (0..3).filter(|&o| other == 3 || other == o).map(joint).sum();
                    }
                    let total: f64 = p.iter().sum();
                    p.map(|p| p / total)
                };
                let moves = |x: usize, first: bool| {
                    let mut to = [0.0; 4];
                    if x == 3 {
                        given(first).iter().enumerate().for_each(|(k, p)| to[k] = reveal * p);
                        to[3] = 1.0 - reveal;
                    } else {
                        (to[x], to[3]) = (1.0 - sigma, sigma);
                    }
                    to
                };
                let (to_a, to_b) = (moves(a, true), moves(b, false));
                for (i, p) in to_a.iter().enumerate() {
                    for (j, q) in to_b.iter().enumerate() {
                        next[i][j] += chance * p * q;
                    }
                }
            }
        }
        now = next;
    }
    [0, 1, 2].map(|i| [0, 1, 2].map(|j| now[i][j]))
}

#[test]
fn remasking_reproduces_its_own_law() {
    let samples = 40_000;
    for (schedule, steps, eta) in [
        (NoiseSchedule::Linear, 2, 0.5),
        (NoiseSchedule::Linear, 10, 0.03),
        (NoiseSchedule::Cosine, 4, 0.3),
        // Without masking again it is the ancestral chain.
        (NoiseSchedule::Linear, 4, 0.0),
    ] {
        let got = law(Sampler::Remdm { eta }, schedule, steps, samples);
        let want = remasking_law(schedule, steps, eta);
        for (g, w) in got.iter().flatten().zip(want.iter().flatten()) {
            let bound = 5.0 * (w * (1.0 - w) / samples as f64).sqrt();
            assert!((g - w).abs() < bound, "{schedule:?} {steps} {eta}: {got:?} {want:?}");
        }
        if eta == 0.0 {
            let ancestral = ancestral_law(schedule, steps);
            let same = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-12;
            assert!(want.iter().flatten().zip(ancestral.iter().flatten()).all(same));
        }
    }
}

/// A network is asked again only when something changed: over 200 steps two tokens change twice.
#[test]
fn what_did_not_change_is_not_asked_again() {
    struct Counting(Exact, usize);
    impl TokenModel for Counting {
        fn draw(&mut self, xt: &[u32], round: u32, time: u32) -> Result<(Vec<u32>, Vec<f32>)> {
            self.1 += 1;
            self.0.draw(xt, round, time)
        }
    }
    let mut model = Counting(Exact { joint: JOINT, samples: 1 }, 0);
    let run = Run {
        sampler: Sampler::Ancestral,
        corruption: &Corruption::Masked(Schedule(NoiseSchedule::Linear)),
        steps: 200,
        samples: 1,
        length: 2,
        cols: 2,
        mask: 3,
        seed: 4,
        first: 0,
        given: &[],
    };
    run.sample(&mut model).unwrap();
    assert!((2..=3).contains(&model.1), "{} questions", model.1);
}

#[test]
fn one_token_a_step_takes_as_many_steps() {
    let run = Run {
        sampler: Sampler::FirstHitting,
        corruption: &Corruption::Masked(Schedule(NoiseSchedule::Linear)),
        steps: 3,
        samples: 1,
        length: 2,
        cols: 2,
        mask: 3,
        seed: 4,
        first: 0,
        given: &[],
    };
    let error = run.sample(&mut Exact { joint: JOINT, samples: 1 }).unwrap_err().to_string();
    assert!(error.contains("3 steps for 2 tokens"), "{error}");
}

/// Given one of two tokens, the other follows its conditional law, and the given one stays: also where
/// tokens are masked again, or become others.
#[test]
fn what_is_given_stays() {
    let (samples, mask) = (20_000, 3);
    let given: Vec<u32> = [mask, 1].repeat(samples);
    let row: f64 = (0..3).map(|i| JOINT[i][1]).sum();
    for sampler in [
        Sampler::Ancestral,
        Sampler::Remdm { eta: 0.3 },
        Sampler::FirstHitting,
        Sampler::Halton,
        Sampler::MaskGit { tau: 1.0 },
    ] {
        let run = Run {
            sampler,
            corruption: &Corruption::Masked(Schedule(NoiseSchedule::Linear)),
            steps: 2,
            samples,
            length: 2,
            cols: 2,
            mask,
            seed: 2,
            first: 0,
            given: &given,
        };
        let x = run.sample(&mut Exact { joint: JOINT, samples }).unwrap();
        assert!(x.chunks(2).all(|pair| pair[1] == 1), "{sampler:?}");
        for (k, joint) in JOINT.iter().enumerate() {
            let (p, n) = (joint[1] / row, samples as f64);
            let share = x.chunks(2).filter(|pair| pair[0] as usize == k).count() as f64 / n;
            let bound = 5.0 * (p * (1.0 - p) / n).sqrt();
            assert!((share - p).abs() < bound, "{sampler:?}: {share} instead of {p}");
        }
    }
}

#[test]
fn what_is_given_stays_in_a_chain() {
    let chain = Chain::published(4, 20).unwrap();
    let run = Run {
        sampler: Sampler::Ancestral,
        corruption: &Corruption::Chain(chain.clone()),
        steps: 5,
        samples: 50,
        length: 2,
        cols: 2,
        mask: 4,
        seed: 2,
        first: 0,
        given: &[4, 2].repeat(50),
    };
    let x = run.sample(&mut OneToken { law: &[0.25; 4], chain: &chain }).unwrap();
    assert!(x.chunks(2).all(|pair| pair[0] < 4 && pair[1] == 2), "{x:?}");
    let wrong = Run { given: &[4, 2], ..run };
    assert!(wrong.sample(&mut OneToken { law: &[0.25; 4], chain: &chain }).is_err());
}
