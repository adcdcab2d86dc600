//! A network that knows the law of the data, and what samplers make of it.

use super::*;
use crate::diffusion::{Chain, Schedule};
use std::collections::HashMap;

/// The law of `length` dependent tokens of `codes` codes: `p` of every sequence, the first token slowest.
#[derive(Debug, Clone)]
pub struct Law {
    pub codes: usize,
    pub length: usize,
    pub p: Vec<f64>,
}

impl Law {
    pub fn new(codes: usize, length: usize, p: &[f64]) -> Self {
        assert_eq!(p.len(), codes.pow(length as u32));
        assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        Law { codes, length, p: p.to_vec() }
    }

    /// Two tokens of three codes.
    pub fn pair() -> Self {
        Law::new(3, 2, &[0.30, 0.02, 0.08, 0.05, 0.20, 0.05, 0.02, 0.08, 0.20])
    }

    /// Three dependent tokens of two codes: the first is nearly sure, the others nearly equal. Which are
    /// revealed together, and how often, makes a difference.
    pub fn triple() -> Self {
        let p = [0.4275, 0.0225, 0.0225, 0.4275, 0.0285, 0.0015, 0.0035, 0.0665];
        Law::new(2, 3, &p)
    }

    /// A single token.
    pub fn single(p: &[f64]) -> Self {
        Law::new(p.len(), 1, p)
    }

    /// The sequence of a number, and back, for digits below `base`.
    pub fn digits(&self, mut number: usize, base: usize) -> Vec<usize> {
        let mut digits = vec![0; self.length];
        for digit in digits.iter_mut().rev() {
            *digit = number % base;
            number /= base;
        }
        digits
    }

    pub fn number(digits: &[usize], base: usize) -> usize {
        digits.iter().fold(0, |number, digit| number * base + digit)
    }

    /// p(x0_i | x_t) of every token i by Bayes' rule, where `seen(state, code)` is q(x_t | x_0) of one
    /// token. Where x_t cannot be: the same for all codes.
    pub fn given(&self, xt: &[usize], seen: impl Fn(usize, usize) -> f64) -> Vec<Vec<f64>> {
        let mut p = vec![vec![0.0; self.codes]; self.length];
        for (number, chance) in self.p.iter().enumerate() {
            let x0 = self.digits(number, self.codes);
            let joint: f64 =
                chance * xt.iter().zip(&x0).map(|(&x, &c)| seen(x, c)).product::<f64>();
            x0.iter().zip(&mut p).for_each(|(&code, p)| p[code] += joint);
        }
        for p in &mut p {
            let total: f64 = p.iter().sum();
            let even = 1.0 / p.len() as f64;
            p.iter_mut().for_each(|p| *p = if total > 0.0 { *p / total } else { even });
        }
        p
    }
}

/// p to the power 1 + weight max p, renormalised (2205.16007, equation 11).
pub fn sharpened(p: &[f64], weight: f64) -> Vec<f64> {
    let purity = p.iter().copied().fold(0.0, f64::max);
    let raw: Vec<f64> = p.iter().map(|p| p.powf(1.0 + weight * purity)).collect();
    let total: f64 = raw.iter().sum();
    raw.into_iter().map(|p| p / total).collect()
}

/// p(x0 | x_t) of every token, and what it is drawn from.
type Answer = Vec<[Vec<f64>; 2]>;

/// The exact network of a law.
pub struct Exact {
    law: Law,
    chain: Option<Chain>,
    /// Of [`Sampler::Purity`].
    weight: f64,
    /// Draws depend on the tokens and the place alone, not on the round.
    pub repeats: bool,
    pub steady: bool,
    /// How often it was asked.
    pub asked: usize,
    /// By tokens and time.
    known: HashMap<(Vec<u32>, u32), Answer>,
}

impl Exact {
    pub fn new(law: &Law, corruption: &Corruption, sampler: Sampler) -> Self {
        let chain = match corruption {
            Corruption::Masked(_) => None,
            Corruption::Chain(chain) => Some(chain.clone()),
        };
        let weight = if let Sampler::Purity { weight } = sampler { weight } else { 0.0 };
        let (law, known) = (law.clone(), HashMap::new());
        Exact { law, chain, weight, repeats: false, steady: true, asked: 0, known }
    }
}

impl TokenModel for Exact {
    fn draw(&mut self, question: &Question<'_>) -> Result<Drawn> {
        self.asked += 1;
        let Exact { law, chain, known, weight, .. } = self;
        let (mut tokens, mut scores) = (vec![], vec![]);
        for (sample, xt) in question.xt.chunks(law.length).enumerate() {
            let p = known.entry((xt.to_vec(), question.time)).or_insert_with(|| {
                let xt: Vec<usize> = xt.iter().map(|&x| x as usize).collect();
                let time = question.time as usize;
                let p = match chain {
                    Some(chain) => {
                        let marginal = chain.marginal(Some(time));
                        law.given(&xt, |x, code| marginal.of(x, code, law.codes))
                    }
                    None => law.given(&xt, |x, code| f64::from(x == law.codes || x == code)),
                };
                p.into_iter().map(|p| [p.clone(), sharpened(&p, *weight)]).collect()
            });
            let state = xt.iter().fold(0, |number, &x| number * 64 + u64::from(x));
            for (place, [p, sharp]) in p.iter().enumerate() {
                let turn = if self.repeats { state } else { u64::from(question.round) };
                let index = ((sample * law.length + place) as u64) << 24 | turn;
                let mut u = Rng::new(5, Stream::Test, index).uniform();
                let drawn = sharp.iter().position(|p| {
                    u -= p;
                    u < 0.0
                });
                let code = drawn.unwrap_or(law.codes - 1);
                tokens.push(code as u32);
                match question.score {
                    Score::Nothing => {}
                    Score::LogProbability => scores.push(p[code].ln() as f32),
                    Score::Purity => scores.push(p.iter().copied().fold(0.0, f64::max) as f32),
                }
            }
        }
        Ok(Drawn { tokens, scores })
    }

    fn is_steady(&self) -> bool {
        self.steady
    }
}

pub fn masked(schedule: crate::config::NoiseSchedule) -> Corruption {
    Corruption::Masked(Schedule(schedule))
}

/// A run over grids of one row.
pub fn run<'a>(
    law: &Law,
    sampler: Sampler,
    corruption: &'a Corruption,
    steps: usize,
    samples: usize,
) -> Run<'a> {
    Run {
        sampler,
        corruption,
        pace: Pace::Trained,
        steps,
        samples,
        length: law.length,
        cols: law.length,
        mask: law.codes as u32,
        seed: 1,
        first: 0,
        given: &[],
    }
}

/// How often each sequence came out.
pub fn frequencies(law: &Law, run: &Run<'_>) -> Vec<f64> {
    let x = run.sample(&mut Exact::new(law, run.corruption, run.sampler)).unwrap();
    let mut counts = vec![0.0; law.p.len()];
    for x in x.chunks(law.length) {
        let x: Vec<usize> = x.iter().map(|&x| x as usize).collect();
        assert!(x.iter().all(|&x| x < law.codes), "a mask is left: {x:?}");
        counts[Law::number(&x, law.codes)] += 1.0 / run.samples as f64;
    }
    counts
}

/// Largest share of its bound that the error of any frequency among `n` uses. The bound is Bernstein's
/// inequality at a chance of 6e-7, that of five standard deviations: it holds for every p.
pub fn error(got: &[f64], want: &[f64], n: usize) -> f64 {
    let (limit, n) = ((2.0f64 / 6e-7).ln(), n as f64);
    let bound = |p: f64| {
        let third = limit / (3.0 * n);
        third + (third * third + 2.0 * p * (1.0 - p) * limit / n).sqrt()
    };
    let share = |(g, w): (&f64, &f64)| (g - w).abs() / bound(*w);
    got.iter().zip(want).map(share).fold(0.0, f64::max)
}
