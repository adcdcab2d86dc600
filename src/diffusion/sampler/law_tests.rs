//! Every sampler against its own law, found by enumerating its chain over all (K+1)^N states, and the exact
//! ones against the law of the data.

use super::testing::{Exact, Law, error, frequencies, masked, run, sharpened};
use super::*;
use crate::config::NoiseSchedule;
use crate::diffusion::{Chain, Schedule};
use std::f64::consts::FRAC_PI_2;

const SAMPLES: usize = 40_000;
/// Steps of the chains, and the strides they are walked with.
const T: usize = 40;
const STRIDES: [usize; 3] = [2, 4, 10];

/// Chances of all states of N tokens, the mask being state K.
struct States<'a> {
    law: &'a Law,
    p: Vec<f64>,
}

impl<'a> States<'a> {
    /// Every token by itself from `start`, [K + 1].
    fn new(law: &'a Law, start: &[f64]) -> Self {
        let base = law.codes + 1;
        let chance = |number| law.digits(number, base).iter().map(|&x| start[x]).product();
        States { law, p: (0..base.pow(law.length as u32)).map(chance).collect() }
    }

    fn masked(law: &'a Law) -> Self {
        let mut start = vec![0.0; law.codes + 1];
        start[law.codes] = 1.0;
        Self::new(law, &start)
    }

    /// One step: `to(state)` lists what becomes of a state, with chances.
    fn step(&mut self, to: impl Fn(&[usize]) -> Vec<(Vec<usize>, f64)>) {
        let base = self.law.codes + 1;
        let mut next = vec![0.0; self.p.len()];
        for (number, &p) in self.p.iter().enumerate().filter(|(_, p)| **p > 0.0) {
            for (state, chance) in to(&self.law.digits(number, base)) {
                next[Law::number(&state, base)] += p * chance;
            }
        }
        self.p = next;
    }

    /// One step in which each token i by itself goes to x with chance `moves(state, i)[x]`.
    fn apart(&mut self, moves: impl Fn(&[usize]) -> Vec<Vec<f64>>) {
        let (law, base) = (self.law, self.law.codes + 1);
        self.step(|state| {
            let moves = moves(state);
            let all = 0..base.pow(law.length as u32);
            all.map(|number| {
                let next = law.digits(number, base);
                let chance = next.iter().zip(&moves).map(|(&x, row)| row[x]).product();
                (next, chance)
            })
            .collect()
        });
    }

    /// The law of the sequences without masks; nothing else may be left.
    fn sequences(&self) -> Vec<f64> {
        let base = self.law.codes + 1;
        let mut out = vec![0.0; self.law.p.len()];
        for (number, p) in self.p.iter().enumerate() {
            let state = self.law.digits(number, base);
            if state.iter().all(|&x| x < self.law.codes) {
                out[Law::number(&state, self.law.codes)] = *p;
            }
        }
        assert!((out.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{out:?}");
        out
    }
}

/// p(x0_i | x_t) where x_t is masked in part.
fn visible(law: &Law, state: &[usize]) -> Vec<Vec<f64>> {
    law.given(state, |x, code| f64::from(x == law.codes || x == code))
}

/// The chain of ReMDM (2503.00307); of `eta` = 0, the ancestral one. `share(i)` is masked after step i.
fn remasking_law(law: &Law, steps: usize, eta: f64, share: impl Fn(usize) -> f64) -> Vec<f64> {
    let mut states = States::masked(law);
    for step in 0..steps {
        let (alpha_t, alpha_s) = (1.0 - share(step), 1.0 - share(step + 1));
        let sigma = if alpha_t > 0.0 { eta.min((1.0 - alpha_s) / alpha_t) } else { 0.0 };
        let reveal = (alpha_s - (1.0 - sigma) * alpha_t) / (1.0 - alpha_t);
        states.apart(|state| {
            let p = visible(law, state);
            let row = |(&x, p): (&usize, &Vec<f64>)| {
                let mut to = vec![0.0; law.codes + 1];
                if x == law.codes {
                    to.iter_mut().zip(p).for_each(|(to, p)| *to = reveal * p);
                    to[x] = 1.0 - reveal;
                } else {
                    (to[x], to[law.codes]) = (1.0 - sigma, sigma);
                }
                to
            };
            state.iter().zip(&p).map(row).collect()
        });
    }
    states.sequences()
}

/// Every way to take `count` of `places` one after the other, each in proportion to its weight among those
/// left, with its chance.
fn selections(places: &[(usize, f64)], count: usize) -> Vec<(Vec<usize>, f64)> {
    if count == 0 {
        return vec![(vec![], 1.0)];
    }
    let total: f64 = places.iter().map(|p| p.1).sum();
    let mut all = vec![];
    for &(place, weight) in places {
        let others: Vec<_> = places.iter().copied().filter(|p| p.0 != place).collect();
        for (mut taken, chance) in selections(&others, count - 1) {
            taken.push(place);
            all.push((taken, chance * weight / total));
        }
    }
    all
}

/// Every draw of the masked tokens from `p`, as a whole state, with its chance.
fn draws(law: &Law, state: &[usize], p: &[Vec<f64>]) -> Vec<(Vec<usize>, f64)> {
    let mut all = vec![(state.to_vec(), 1.0)];
    for place in (0..law.length).filter(|&i| state[i] == law.codes) {
        let with = |(drawn, chance): (Vec<usize>, f64)| {
            p[place].iter().enumerate().map(move |(code, p)| {
                let mut drawn = drawn.clone();
                drawn[place] = code;
                (drawn, chance * p)
            })
        };
        all = all.into_iter().flat_map(with).collect();
    }
    all
}

/// The chain of a sampler that reveals a set number of tokens a step.
fn ordered_law(law: &Law, sampler: Sampler, steps: usize) -> Vec<f64> {
    let mut states = States::masked(law);
    for step in 0..steps {
        let left = steps - step - 1;
        let share = match sampler {
            Sampler::Purity { .. } => left as f64 / steps as f64,
            _ => (FRAC_PI_2 * (1.0 - left as f64 / steps as f64)).cos(),
        };
        states.step(|state| {
            let masked: Vec<usize> = (0..law.length).filter(|&i| state[i] == law.codes).collect();
            if masked.is_empty() {
                return vec![(state.to_vec(), 1.0)];
            }
            let least = usize::from(!matches!(sampler, Sampler::Purity { .. }));
            // Exact multiples, which a rounding could take for less.
            let stay = ((law.length as f64 * share + 1e-9) as usize).max(least);
            let count = match (sampler, left) {
                (Sampler::FirstHitting, _) => 1,
                (_, 0) => masked.len(),
                _ => masked.len().saturating_sub(stay).max(1),
            };
            let p = visible(law, state);
            let reveal = |drawn: &[usize], places: &[usize]| {
                let mut next = state.to_vec();
                places.iter().for_each(|&i| next[i] = drawn[i]);
                next
            };
            let mut out = vec![];
            let sharp: Vec<Vec<f64>> = match sampler {
                Sampler::Purity { weight } => p.iter().map(|p| sharpened(p, weight)).collect(),
                _ => p.clone(),
            };
            for (drawn, chance) in draws(law, state, &sharp) {
                let weight = |i: usize| match sampler {
                    Sampler::Purity { .. } => p[i].iter().copied().fold(0.0, f64::max),
                    // log p + tau (1 - r) Gumbel.
                    Sampler::MaskGit { tau } if left > 0 => {
                        (p[i][drawn[i]].ln() / (tau * left as f64 / steps as f64)).exp()
                    }
                    _ => 1.0,
                };
                let ways = match sampler {
                    Sampler::Halton => {
                        let order = order::halton(1, law.length).into_iter();
                        let first = order.filter(|i| masked.contains(i)).take(count).collect();
                        vec![(first, 1.0)]
                    }
                    _ => {
                        let places: Vec<_> = masked.iter().map(|&i| (i, weight(i))).collect();
                        selections(&places, count)
                    }
                };
                out.extend(ways.into_iter().map(|(way, q)| (reveal(&drawn, &way), chance * q)));
            }
            out
        });
    }
    states.sequences()
}

fn judge(what: &str, got: &[f64], want: &[f64]) {
    let used = error(got, want, SAMPLES);
    println!("{what}: {used:.2} of the bound");
    assert!(used <= 1.0, "{what}: {got:?} instead of {want:?}");
}

/// A share of masked tokens by schedule and grid of times.
fn share(schedule: NoiseSchedule, pace: Pace, r: f64) -> f64 {
    match pace {
        Pace::Trained => Schedule(schedule).masked(1.0 - r),
        Pace::Linear => 1.0 - r,
        Pace::Cosine => (FRAC_PI_2 * r).cos(),
    }
}

#[test]
fn ancestral_and_remasking_follow_their_own_law() {
    let (linear, cosine) = (NoiseSchedule::Linear, NoiseSchedule::Cosine);
    for law in [Law::pair(), Law::triple()] {
        for (schedule, pace, steps, eta) in [
            (linear, Pace::Trained, 1, 0.0),
            (linear, Pace::Trained, 2, 0.0),
            (linear, Pace::Trained, 4, 0.0),
            (linear, Pace::Trained, 10, 0.0),
            (cosine, Pace::Trained, 2, 0.0),
            (cosine, Pace::Trained, 10, 0.0),
            (cosine, Pace::Linear, 4, 0.0),
            (linear, Pace::Cosine, 4, 0.0),
            (linear, Pace::Trained, 3, 0.5),
            (linear, Pace::Trained, 10, 0.5),
            (linear, Pace::Trained, 10, 0.03),
            (cosine, Pace::Trained, 4, 0.3),
            (linear, Pace::Cosine, 10, 0.2),
        ] {
            let sampler = if eta > 0.0 { Sampler::Remdm { eta } } else { Sampler::Ancestral };
            let corruption = masked(schedule);
            let run = Run { pace, ..run(&law, sampler, &corruption, steps, SAMPLES) };
            let at = |i: usize| share(schedule, pace, i as f64 / steps as f64);
            let want = remasking_law(&law, steps, eta, at);
            let what =
                format!("{sampler:?}, {schedule:?}, {pace:?}, {steps} steps, K={}", law.codes);
            judge(&what, &frequencies(&law, &run), &want);
        }
    }
}

#[test]
fn samplers_with_an_order_follow_their_own_law() {
    for law in [Law::pair(), Law::triple()] {
        for sampler in [
            Sampler::MaskGit { tau: 4.5 },
            Sampler::MaskGit { tau: 0.5 },
            Sampler::Halton,
            Sampler::Purity { weight: 0.0 },
            Sampler::Purity { weight: 3.0 },
        ] {
            let corruption = masked(NoiseSchedule::Linear);
            for steps in [1, 2, 3, 5] {
                let got = frequencies(&law, &run(&law, sampler, &corruption, steps, SAMPLES));
                let want = ordered_law(&law, sampler, steps);
                judge(&format!("{sampler:?}, {steps} steps, K={}", law.codes), &got, &want);
            }
        }
    }
}

/// Tokens that are revealed one by one follow the law of the data, in whatever order that does not depend
/// on what was drawn.
#[test]
fn one_token_a_step_is_exact() {
    for law in [Law::pair(), Law::triple()] {
        for sampler in [
            Sampler::FirstHitting,
            Sampler::Halton,
            Sampler::Purity { weight: 0.0 },
            // Noise that drowns the confidence.
            Sampler::MaskGit { tau: 1e9 },
        ] {
            let same = |(a, b): (&f64, &f64)| {
                (a - b).abs()
                    < if matches!(sampler, Sampler::MaskGit { .. }) { 1e-8 } else { 1e-12 }
            };
            // MaskGIT's and Halton's cosine: two at once unless there are enough steps.
            let steps = if sampler == Sampler::FirstHitting { law.length } else { 5 * law.length };
            let want = ordered_law(&law, sampler, steps);
            assert!(want.iter().zip(&law.p).all(same), "{sampler:?}: {want:?}");
            let corruption = masked(NoiseSchedule::Linear);
            let got = frequencies(&law, &run(&law, sampler, &corruption, steps, SAMPLES));
            judge(&format!("{sampler:?}, {} tokens, the data", law.length), &got, &law.p);
        }
    }
}

/// Two bits of correlation .6: in n steps a share 1/n of the pairs is revealed together, which is .3 from
/// the law of the data in total variation. The cosine grid makes that share larger at few steps of two
/// tokens: it is the share of the sum of squared steps.
#[test]
fn parallel_steps_cost_what_they_should() {
    let law = Law::new(2, 2, &[0.4, 0.1, 0.1, 0.4]);
    for steps in [4, 25] {
        let at = |i: usize| 1.0 - i as f64 / steps as f64;
        let got = remasking_law(&law, steps, 0.0, at);
        let off: f64 = got.iter().zip(&law.p).map(|(a, b)| 0.5 * (a - b).abs()).sum();
        println!("{steps} steps: total variation {off:.4}");
        assert!((off - 0.3 / steps as f64).abs() < 1e-12, "{off}");
    }
}

fn chains(codes: usize) -> [Chain; 4] {
    [
        Chain::released(codes, T),
        Chain::published(codes, T),
        Chain::absorbing(codes, T),
        Chain::uniform(codes, T),
    ]
    .map(|chain| chain.unwrap())
}

/// Ancestral steps of a chain end in the law of one token, in as few steps as one likes. (The chains that
/// do not quite end in their prior are off by at most alpha_T = 9e-6, 0.003 of the bound.)
#[test]
fn chains_end_in_the_law_of_one_token() {
    let law = Law::single(&[0.4, 0.05, 0.25, 0.3]);
    for chain in chains(law.codes) {
        let corruption = Corruption::Chain(chain);
        for stride in STRIDES.into_iter().chain([1, T]) {
            for pace in [Pace::Trained, Pace::Cosine] {
                if stride == 1 && pace == Pace::Cosine {
                    continue; // All steps are taken, whatever the pace.
                }
                let plain = run(&law, Sampler::Ancestral, &corruption, T / stride, SAMPLES);
                let got = frequencies(&law, &Run { pace, ..plain });
                let used = error(&got, &law.p, SAMPLES);
                println!("stride {stride}, {pace:?}: {used:.2} of the bound");
                assert!(used <= 1.0, "stride {stride}, {pace:?} of {corruption:?}: {got:?}");
            }
        }
    }
}

/// Of dependent tokens, a chain in strides has its own law.
#[test]
fn chains_follow_their_own_law() {
    for law in [Law::pair(), Law::triple()] {
        for (name, chain) in
            ["released", "published", "absorbing", "uniform"].iter().zip(chains(law.codes))
        {
            let corruption = Corruption::Chain(chain.clone());
            for stride in STRIDES {
                let steps = T / stride;
                let mut states = States::new(&law, &chain.prior());
                for i in (0..steps).rev() {
                    let (s, t) = ((i * stride).checked_sub(1), (i + 1) * stride - 1);
                    let (step, marginal) = (chain.step(s, t), chain.marginal(Some(t)));
                    states.apart(|state| {
                        let p = law.given(state, |x, c| marginal.of(x, c, law.codes));
                        let row = |(&x, p): (&usize, &Vec<f64>)| {
                            let mut to = vec![0.0; law.codes + 1];
                            step.posterior(x, p, &mut to);
                            to
                        };
                        state.iter().zip(&p).map(row).collect()
                    });
                }
                let run = run(&law, Sampler::Ancestral, &corruption, steps, SAMPLES);
                let what = format!("{name}, stride {stride}, K={}", law.codes);
                judge(&what, &frequencies(&law, &run), &states.sequences());
            }
        }
    }
}

/// Not to ask again where nothing changed changes no token, under draws that are equal for equal
/// questions; and it saves most of the network's work where steps outnumber the tokens.
#[test]
fn what_is_remembered_changes_no_token() {
    let law = Law::triple();
    let corruption = masked(NoiseSchedule::Linear);
    for sampler in [
        Sampler::Ancestral,
        Sampler::Remdm { eta: 0.03 },
        Sampler::MaskGit { tau: 4.5 },
        Sampler::Halton,
        Sampler::Purity { weight: 1.0 },
    ] {
        for samples in [1, 4] {
            let run = Run { seed: 4, ..run(&law, sampler, &corruption, 200, samples) };
            let ask = |steady| {
                let mut model = Exact::new(&law, &corruption, sampler);
                (model.repeats, model.steady) = (true, steady);
                let x = run.sample(&mut model).unwrap();
                (x, model.asked)
            };
            let ((kept, few), (anew, many)) = (ask(true), ask(false));
            println!("{sampler:?}, {samples} samples: {few} questions instead of {many}");
            assert_eq!(kept, anew, "{sampler:?}");
            assert!(few <= many);
            if sampler == Sampler::Ancestral {
                // Every token changes once; the first question comes before any change.
                assert!(few <= samples * law.length && 4 * few < many, "{few} of {many}");
            }
        }
    }
}
