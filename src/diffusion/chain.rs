//! Chains of corruptions: T steps of one process, from a table of marginals.

use super::process::{Marginal, Step};
use crate::error::{Error, Result};

/// A corruption in T steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    codes: usize,
    /// After step t = 0..T.
    marginals: Vec<Marginal>,
}

impl Chain {
    /// From `alpha` and `gamma` after each step, both in [0, 1] with alpha + gamma <= 1, alpha falling
    /// and gamma rising.
    ///
    /// # Errors
    /// No steps or codes; values that are no probabilities or run backwards.
    pub fn new(codes: usize, table: impl IntoIterator<Item = (f64, f64)>) -> Result<Self> {
        let mut before = Marginal::CLEAN;
        let mut marginals = vec![];
        for (t, (alpha, gamma)) in table.into_iter().enumerate() {
            let sound = alpha >= 0.0 && gamma >= before.gamma && alpha <= before.alpha;
            // The rest may be 0 up to a rounding.
            if !(sound && alpha + gamma <= 1.0 + 1e-12) {
                return Err(Error::usage(format!(
                    "step {t} of the corruption leaves {alpha} alone and masks {gamma}"
                ))
                .why("the first must fall, the second rise, their sum stay within 1"));
            }
            before = Marginal::new(alpha, gamma, codes);
            marginals.push(before);
        }
        if marginals.is_empty() || codes == 0 {
            return Err(Error::usage("a corruption needs at least one step and one code"));
        }
        Ok(Chain { codes, marginals })
    }

    /// VQ-Diffusion as released: alpha from .99999 to 9e-6 and gamma from 9e-6 to .99999, both linear in
    /// t; what is left to chance is 1e-6 in all, at every t.
    pub fn released(codes: usize, steps: usize) -> Result<Self> {
        Self::linear(codes, steps, [0.99999, 9e-6], [9e-6, 0.99999])
    }

    /// VQ-Diffusion as published (section 4.1 of the paper): at the end .9 are masked and .1 left to
    /// chance.
    pub fn published(codes: usize, steps: usize) -> Result<Self> {
        Self::linear(codes, steps, [0.99999, 9e-6], [9e-6, 0.9])
    }

    /// alpha and gamma from their first to their last value, linear in t: `VQDiffusionScheduler`.
    pub fn linear(codes: usize, steps: usize, alpha: [f64; 2], gamma: [f64; 2]) -> Result<Self> {
        let last = steps.saturating_sub(1).max(1) as f64;
        let at = |[from, to]: [f64; 2], t: usize| from + t as f64 / last * (to - from);
        Self::new(codes, (0..steps).map(|t| (at(alpha, t), at(gamma, t))))
    }

    /// D3PM's absorbing corruption: a 1 / (T - t)-th of what is visible is masked in step t, so that
    /// the masked share is linear.
    pub fn absorbing(codes: usize, steps: usize) -> Result<Self> {
        let masked = |t: usize| (t + 1) as f64 / steps as f64;
        Self::new(codes, (0..steps).map(|t| (1.0 - masked(t), masked(t))))
    }

    /// D3PM's uniform corruption, with the share left alone falling as cos^2 (Nichol & Dhariwal,
    /// 2102.09672), to chance alone at the end.
    pub fn uniform(codes: usize, steps: usize) -> Result<Self> {
        let alpha = |t: usize| {
            let part = (t + 1) as f64 / steps as f64;
            // Exactly 0 at the end.
            if t + 1 == steps { 0.0 } else { (std::f64::consts::FRAC_PI_2 * part).cos().powi(2) }
        };
        Self::new(codes, (0..steps).map(|t| (alpha(t), 0.0)))
    }

    pub fn codes(&self) -> usize {
        self.codes
    }

    pub fn steps(&self) -> usize {
        self.marginals.len()
    }

    /// After step `t`; before step 0 ([`None`]) nothing is corrupted.
    pub fn marginal(&self, t: Option<usize>) -> Marginal {
        t.map_or(Marginal::CLEAN, |t| self.marginals[t])
    }

    /// The corruption from after step `s` (`None`: from the start) to after step `t` > s.
    pub fn step(&self, s: Option<usize>, t: usize) -> Step {
        Step::between(self.marginal(s), self.marginals[t], self.codes)
    }

    /// Nats a token by which q(x_T | x_0) is more certain than the prior: what the bound adds to the steps.
    pub fn prior_divergence(&self) -> f64 {
        let (last, prior) = (self.marginals[self.steps() - 1], self.prior());
        let of = |q: f64, p: f64| if q > 0.0 { q * (q / p).ln() } else { 0.0 };
        let others = (self.codes - 1) as f64 * of(last.beta, prior[0]);
        of(last.alpha + last.beta, prior[0]) + others + of(last.gamma, prior[self.codes])
    }

    /// The law that x_T is drawn from, [codes + 1]: that of the last step without its first token.
    pub fn prior(&self) -> Vec<f64> {
        let last = self.marginals[self.steps() - 1];
        let chance = last.beta + last.alpha / self.codes as f64;
        let mut law = vec![chance; self.codes];
        law.push(last.gamma);
        law
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chains(codes: usize) -> [Chain; 4] {
        let chain = |chain: Result<Chain>| chain.expect("a sound table");
        [
            chain(Chain::released(codes, 20)),
            chain(Chain::published(codes, 20)),
            chain(Chain::absorbing(codes, 20)),
            chain(Chain::uniform(codes, 20)),
        ]
    }

    /// The transition matrix of step t as a whole, [from][to].
    fn matrix(chain: &Chain, t: usize) -> Vec<Vec<f64>> {
        let step = chain.step(t.checked_sub(1), t);
        let k = chain.codes();
        let mut q = vec![vec![0.0; k + 1]; k + 1];
        for (from, row) in q.iter_mut().enumerate().take(k) {
            for (to, p) in row.iter_mut().enumerate().take(k) {
                *p = step.replace + if from == to { step.keep } else { 0.0 };
            }
            row[k] = step.mask;
        }
        q[k][k] = 1.0;
        q
    }

    fn times(a: &[Vec<f64>], b: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let n = a.len();
        let entry = |i: usize, j: usize| (0..n).map(|l| a[i][l] * b[l][j]).sum();
        (0..n).map(|i| (0..n).map(|j| entry(i, j)).collect()).collect()
    }

    fn product(chain: &Chain, from: usize, to: usize) -> Vec<Vec<f64>> {
        let n = chain.codes() + 1;
        let one = (0..n).map(|i| (0..n).map(|j| f64::from(i == j)).collect()).collect();
        (from..to).fold(one, |q: Vec<Vec<f64>>, t| times(&q, &matrix(chain, t)))
    }

    /// Marginals are the products of the steps, and posteriors of any stride Bayes' rule on whole
    /// matrices. Errors are roundings of up to 20 products over a chance of 1e-6 / 5 in all:
    /// 20 2^-53 / 2e-7.
    #[test]
    fn posteriors_are_those_of_bayes() {
        let k = 5;
        let p = [0.1, 0.25, 0.3, 0.05, 0.3];
        let mut worst = 0.0f64;
        for chain in chains(k) {
            for (s, t) in [(0, 1), (1, 2), (3, 7), (9, 19), (18, 19), (0, 19)] {
                let (early, late) = (product(&chain, 0, s), product(&chain, 0, t));
                let between = product(&chain, s, t);
                let step = chain.step(s.checked_sub(1), t - 1);
                for state in 0..=k {
                    for (code, row) in late.iter().enumerate().take(k) {
                        let q = chain.marginal(Some(t - 1)).of(state, code, k);
                        assert!((q - row[state]).abs() < 1e-14, "{q} {}", row[state]);
                    }
                    // The model: x_s by x_0 ~ p, x_0 given x_t.
                    let mut got = [0.0; 6];
                    step.posterior(state, &p, &mut got);
                    match (0..k).filter(|&code| late[code][state] > 1e-15).count() {
                        0 => continue,
                        // Absorbing: a code that is seen, whatever p says.
                        1 => {
                            assert_eq!(got[state], 1.0);
                            continue;
                        }
                        reached => assert_eq!(reached, k),
                    }
                    for (x, got) in got.into_iter().enumerate() {
                        let bayes =
                            |code: usize| early[code][x] * between[x][state] / late[code][state];
                        let want: f64 = (0..k).map(|code| p[code] * bayes(code)).sum();
                        worst = worst.max((got - want).abs());
                    }
                }
            }
        }
        println!("largest difference {worst:e}");
        assert!(worst < 1.2e-8, "{worst:e}");
    }

    /// With the true p(x_0 | x_t) and the true law of x_T as prior, the bound of a chain of T steps is the
    /// entropy of the token; another prior adds its divergence from that law.
    #[test]
    fn the_bound_of_one_token_is_its_entropy() {
        for k in 2..=8 {
            let law: Vec<f64> = (1..=k).map(|i| 2.0 * i as f64 / (k * (k + 1)) as f64).collect();
            let entropy: f64 = law.iter().map(|p| -p * p.ln()).sum();
            for chain in chains(k) {
                // Roundings of 20 K^2 terms below 1.
                let error = bound(&chain, &law) - entropy;
                assert!(error.abs() < 1e-10, "{k} codes: {error:e}");
            }
        }
    }

    /// Sum over t of the expected divergences of q(x_{t-1} | x_t, x_0) from the model, and of q(x_T | x_0)
    /// from q(x_T).
    fn bound(chain: &Chain, law: &[f64]) -> f64 {
        let k = law.len();
        let divergence = |a: &[f64], b: &[f64]| -> f64 {
            let pairs = a.iter().zip(b).filter(|(a, _)| **a > 0.0);
            pairs.map(|(a, b)| a * (a / b).ln()).sum()
        };
        let mut total = 0.0;
        let mut last = 0.0;
        for t in 0..chain.steps() {
            let (step, marginal) = (chain.step(t.checked_sub(1), t), chain.marginal(Some(t)));
            for state in 0..=k {
                let joint: Vec<f64> =
                    law.iter().enumerate().map(|(c, p)| p * marginal.of(state, c, k)).collect();
                let mass: f64 = joint.iter().sum();
                if mass == 0.0 {
                    continue;
                }
                let p: Vec<f64> = joint.iter().map(|j| j / mass).collect();
                let (mut model, mut truth) = (vec![0.0; k + 1], vec![0.0; k + 1]);
                step.posterior(state, &p, &mut model);
                for code in (0..k).filter(|&c| joint[c] > 0.0) {
                    let mut certain = vec![0.0; k];
                    certain[code] = 1.0;
                    step.posterior(state, &certain, &mut truth);
                    // At t = 0 the truth is the code itself: -log p(x_0 | x_1).
                    total += joint[code] * divergence(&truth, &model);
                    if t + 1 == chain.steps() {
                        last += joint[code] * (marginal.of(state, code, k) / mass).ln();
                    }
                }
            }
        }
        total + last
    }

    /// The inverse of the draw's cumulative law, on a fine grid of u, against the posterior under a
    /// certainty: the grid is off by at most one cell for each of the intervals of an outcome.
    #[test]
    fn draws_follow_the_posterior() {
        const CELLS: usize = 20_000;
        let k = 5;
        for chain in chains(k) {
            for (s, t) in [(None, 0), (Some(2), 6), (Some(8), 18), (None, 19)] {
                let step = chain.step(s, t);
                for state in 0..=k {
                    for code in 0..k {
                        if chain.marginal(Some(t)).of(state, code, k) == 0.0 {
                            continue;
                        }
                        let (mut p, mut want) = ([0.0; 5], [0.0; 6]);
                        p[code] = 1.0;
                        step.posterior(state, &p, &mut want);
                        let mut got = [0.0; 6];
                        for cell in 0..CELLS {
                            let u = (cell as f64 + 0.5) / CELLS as f64;
                            got[step.draw(state, code, k, u)] += 1.0 / CELLS as f64;
                        }
                        for (got, want) in got.iter().zip(want) {
                            assert!((got - want).abs() < 2.0 / CELLS as f64, "{got} {want}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn tables_that_run_backwards_are_refused() {
        for table in [vec![], vec![(0.5, 0.6)], vec![(0.5, 0.4), (0.6, 0.4)], vec![(-0.1, 0.5)]] {
            assert!(Chain::new(4, table.clone()).is_err(), "{table:?}");
        }
        assert!(Chain::new(0, [(0.5, 0.5)]).is_err());
        assert!(Chain::new(4, [(f64::NAN, 0.5)]).is_err());
    }

    #[test]
    fn priors_are_laws() {
        for chain in chains(7) {
            let total: f64 = chain.prior().iter().sum();
            assert!((total - 1.0).abs() < 1e-12, "{total}");
        }
    }
}
