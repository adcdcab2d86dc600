//! Categorical draws that are right in f32.
//!
//! argmin_k E_k / p_k with independent standard exponentials E_k is distributed as p (the race of
//! exponentials, the multiplicative form of the Gumbel trick). Gumbel noise from a 24-bit uniform
//! cannot exceed 16.64, which starves every token below e^-16 of the commonest: a hidden
//! temperature. What decides those tokens is E near 0, so E is built with full relative precision
//! there: v = (1 + m/2^23) 2^-(1+z) with a mantissa m and a geometric z of its own, E = -log(1 - v).

use super::wrong_binds;
use super::{
    Bind, Caps, Case, Const, Cost, Fill, Io, Kernel, Real, StepScalars, flag, grid_1d, int,
    subgroup,
};
use crate::naive_forms;
use crate::rng::{Stream, philox4x32};
use rayon::prelude::*;
use std::sync::Arc;

/// A logit at or below this means "never": masks are written as -inf or as a huge negative number.
const NEVER: f32 = -1e30;
/// Below this v, E comes from the series of -log(1 - v); its first omitted term is v^4/5 < 2^-26.
const SERIES_BELOW: f64 = 1.0 / 64.0;

/// One draw a row from softmax(l / temperature), where l are the log-probabilities of the logits;
/// guided: l = l_u + guidance (l_c - l_u) of the log-probabilities of two rows (classifier-free
/// guidance), and a token that either branch excludes stays excluded. Logits <= -1e30 exclude;
/// a row that excludes everything gives token 0. The temperature must be positive.
///
/// With `top_k` above 0 only so many tokens are drawn from, the likeliest at this temperature; with
/// `top_p` below 1 only the fewest that have that share of the probability together (the truncation of
/// VQ-Diffusion, 2111.14822); with both those that either leaves. Tokens as likely as the last one stay.
///
/// With `purity` r above 0 the log-probabilities of a row are then multiplied by 1 + r max_k p_k and
/// renormalised (Improved VQ-Diffusion, 2205.16007, equation 11): what is sure gets surer. Which tokens are
/// cut off is decided before that.
///
/// Bindings: logits [rows, k] (guided: [2 rows, k], the unconditional half first), token u32 [rows],
/// logp [rows] = log-probability of the token and purity [rows] = max_k p_k, both at temperature 1, guided
/// and renormalised, nothing cut off; where everything is excluded they mean nothing.
///
/// Random words: token k of row r takes element k % 4 of philox(counter [r ceil(K/4) + k/4,
/// [`Stream::Sample`], step.step, 0]); where its high 9 bits are all zero, z goes on in
/// philox(counter [r K + k, [`Stream::Sample`], step.step, 1]). The key is the seed.
#[derive(Debug, Clone)]
pub struct DrawTokens {
    pub rows: usize,
    pub k: usize,
    pub guided: bool,
}

/// v in (0, 1) from a random word, continued by `more` in one case of 512.
pub(super) fn unit_interval(word: u32, more: impl FnOnce() -> [u32; 4]) -> f32 {
    let mut zeros = word.leading_zeros();
    if zeros >= 9 {
        let [a, b, c, _] = more();
        let tail = u128::from(a) << 64 | u128::from(b) << 32 | u128::from(c);
        zeros = 9 + (tail.leading_zeros() - 32);
    }
    f32::from_bits((126 - zeros) << 23 | word & 0x7f_ffff)
}

/// -log(1 - v).
fn exponential<T: Real>(v: T) -> T {
    if v.value() < SERIES_BELOW {
        let (half, third, quarter) = (T::of(0.5), T::of(1.0 / 3.0), T::of(0.25));
        v * (T::one() + v * (half + v * (third + v * quarter)))
    } else {
        -(T::one() - v).ln()
    }
}

/// Largest logit and log sum exp over the logits that are not excluded.
fn log_sum_exp<T: Real>(logits: impl Iterator<Item = T> + Clone) -> (T, T) {
    let largest = logits.clone().fold(T::of(f32::MIN.into()), |m, l| m.maximum(l));
    let mut sum = T::zero();
    for l in logits.filter(|l| l.value() > NEVER.into()) {
        sum += (l - largest).exp();
    }
    (largest, largest + sum.ln())
}

/// The least of `weights` that tokens are drawn with, a rounding less; 0: all.
fn cut(mut weights: Vec<f64>, step: &StepScalars) -> f64 {
    if (step.top_p >= 1.0 && step.top_k == 0) || weights.is_empty() {
        return 0.0;
    }
    weights.sort_unstable_by(|a, b| b.total_cmp(a));
    let wanted = f64::from(step.top_p) * weights.iter().sum::<f64>();
    let mut mass = 0.0;
    let reached = weights.iter().position(|w| {
        mass += w;
        mass >= wanted
    });
    let last = weights.len() - 1;
    let by_mass = if step.top_p < 1.0 { reached.unwrap_or(last) } else { last };
    let by_count = if step.top_k > 0 { step.top_k as usize - 1 } else { last };
    0.999_999 * weights[by_mass.min(by_count).min(last)]
}

impl DrawTokens {
    fn blocks(&self) -> usize {
        self.k.div_ceil(4)
    }

    /// Invocations a row: one a block of four tokens, as far as a workgroup goes.
    fn workgroup(&self) -> usize {
        self.blocks().next_power_of_two().clamp(32, 256)
    }

    /// The two branches of row r; without guidance both are the row itself.
    fn branches<'a, T>(&self, logits: &'a [T], r: usize) -> (&'a [T], &'a [T]) {
        let row = |r: usize| &logits[r * self.k..(r + 1) * self.k];
        (row(r), if self.guided { row(self.rows + r) } else { row(r) })
    }

    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let step = io.step;
        let [Bind::In(logits), Bind::OutU(token), Bind::Out(logp), Bind::Out(purity), ..] =
            &mut io.binds
        else {
            wrong_binds(self.name())
        };
        let philox = |counter: usize, kind: u32| {
            let counter = [counter as u32, Stream::Sample as u32, step.step, kind];
            philox4x32(counter, [step.seed_lo, step.seed_hi])
        };
        for r in 0..self.rows {
            let (first, second) = self.branches(logits, r);
            let (_, lse_u) = log_sum_exp(first.iter().copied());
            let (_, lse_c) = log_sum_exp(second.iter().copied());
            let mut l = first.to_vec();
            if self.guided {
                for (l, &c) in l.iter_mut().zip(second) {
                    let (u, c) = (*l - lse_u, c - lse_c);
                    let excluded = u.value().min(c.value()) <= NEVER.into();
                    let guided = u + T::of(step.guidance.into()) * (c - u);
                    *l = if excluded { T::of(f32::MIN.into()) } else { guided };
                }
            }
            let (largest, lse) = log_sum_exp(l.iter().copied());
            purity[r] = (largest - lse).exp();
            let sharp = T::one() + T::of(step.purity.into()) * purity[r];
            let scaled = |l: T| (l - largest) / T::of(step.temperature.into());
            let weight = |l: T| scaled(l).exp().value();
            let weights = l.iter().filter(|l| l.value() > NEVER.into()).map(|&l| weight(l));
            let least = cut(weights.collect(), &step);
            let (mut best, mut winner) = (f64::INFINITY, 0);
            for (k, &l) in l.iter().enumerate().filter(|(_, l)| l.value() > NEVER.into()) {
                let word = philox(r * self.blocks() + k / 4, 0)[k % 4];
                let v = unit_interval(word, || philox(r * self.k + k, 1));
                let p = (sharp * scaled(l)).exp().value();
                let time = exponential(T::of(v.into())).value() / p;
                if p > 0.0 && weight(l) >= least && time < best {
                    (best, winner) = (time, k);
                }
            }
            token[r] = winner as u32;
            logp[r] = l[winner] - lse;
        }
    }

    /// Token, log-probability and purity of row r: the cpu form.
    fn draw(&self, step: &StepScalars, logits: &[f32], r: usize) -> (u32, f32, f32) {
        let (first, second) = self.branches(logits, r);
        let key = [step.seed_lo, step.seed_hi];
        let philox = |counter: usize, kind: u32| {
            philox4x32([counter as u32, Stream::Sample as u32, step.step, kind], key)
        };
        let (mut lse_u, mut lse_c) = (0.0, 0.0);
        if self.guided {
            lse_u = log_sum_exp(first.iter().copied()).1;
            lse_c = log_sum_exp(second.iter().copied()).1;
        }
        let l = |k: usize| {
            let (u, c) = (first[k], second[k]);
            if !self.guided {
                u
            } else if u > NEVER && c > NEVER {
                let u = u - lse_u;
                u + step.guidance * ((c - lse_c) - u)
            } else {
                f32::MIN
            }
        };
        let largest = (0..self.k).map(l).fold(f32::MIN, f32::max);
        let possible = || (0..self.k).map(l).filter(|&l| l > NEVER);
        let least = match step.top_p < 1.0 || step.top_k > 0 {
            true => {
                let weight = |l: f32| f64::from(((l - largest) / step.temperature).exp());
                cut(possible().map(weight).collect(), step) as f32
            }
            false => 0.0,
        };
        let sharp = match step.purity > 0.0 {
            true => 1.0 + step.purity / possible().map(|l| (l - largest).exp()).sum::<f32>(),
            false => 1.0,
        };
        let plain = step.temperature == 1.0 && sharp == 1.0;
        let (mut best, mut winner, mut sum) = (f32::INFINITY, 0, 0.0);
        for block in 0..self.blocks() {
            let words = philox(r * self.blocks() + block, 0);
            for (k, word) in (4 * block..self.k).zip(words) {
                let l = l(k);
                if l > NEVER {
                    let unscaled = (l - largest).exp();
                    sum += unscaled;
                    let scaled = (l - largest) / step.temperature;
                    let p = if plain { unscaled } else { (sharp * scaled).exp() };
                    let kept = least == 0.0 || scaled.exp() >= least;
                    let v = unit_interval(word, || philox(r * self.k + k, 1));
                    // E >= v, so most candidates are out before the logarithm.
                    if p > 0.0 && kept && v / p < best && exponential(v) / p < best {
                        (best, winner) = (exponential(v) / p, k);
                    }
                }
            }
        }
        let lse = largest + sum.ln();
        (winner as u32, l(winner) - lse, 1.0 / sum)
    }
}

impl Kernel for DrawTokens {
    fn name(&self) -> &'static str {
        "draw_tokens"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/draw_tokens.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![
            int("K", self.k),
            int("BLOCKS", self.blocks()),
            int("WG", self.workgroup()),
            int("STREAM", Stream::Sample as usize),
            flag("GUIDED", self.guided),
            subgroup::off(),
        ]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.rows as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let logits = self.rows * self.k * (1 + usize::from(self.guided));
        vec![logits, self.rows, self.rows, self.rows]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.rows, 1)
    }
    fn cost(&self) -> Cost {
        let n = self.lens()[0] as u64;
        Cost { flops: 80 * n, bytes: 4 * n }
    }
    fn variants(&self, caps: &Caps) -> Vec<Arc<dyn Kernel>> {
        subgroup::offer(self, caps)
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let step = io.step;
        let [Bind::In(logits), Bind::OutU(token), Bind::Out(logp), Bind::Out(purity), ..] =
            &mut io.binds
        else {
            wrong_binds(self.name())
        };
        let logits = *logits;
        let rows = token.par_iter_mut().zip(logp.par_iter_mut()).zip(purity.par_iter_mut());
        rows.enumerate().for_each(|(r, ((token, logp), purity))| {
            (*token, *logp, *purity) = self.draw(&step, logits, r);
        });
    }
    naive_forms!();
}

/// The forms may take different tokens where two times E / p agree to rounding: near ties.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (rows, k, guided, temperature) in [
        (1, 1, false, 1.0),
        (41, 3, false, 0.7),
        (9, 47, true, 1.0),
        (8, 256, false, 1.0),
        (5, 257, true, 1.3),
        (3, 1030, false, 0.1),
    ] {
        let kernel = DrawTokens { rows, k, guided };
        let step = StepScalars {
            step: 3,
            seed_lo: 77,
            seed_hi: rows as u32,
            temperature,
            guidance: 2.5,
            ..StepScalars::default()
        };
        let spread = Fill::Normal { mean: 1.0, std: 3.0 };
        let fills = vec![spread, Fill::Poison, Fill::Poison, Fill::Poison];
        let name = format!("{rows} x {k} guided={guided} temperature={temperature}");
        cases.push(Case::new(name, kernel, fills).near_ties().with_step(step));
    }
    for (rows, k, guided, top_p, top_k, purity) in [
        (9, 47, false, 0.6, 0, 0.0),
        (8, 256, true, 1.0, 5, 0.0),
        (5, 257, false, 0.86, 40, 0.0),
        (7, 41, true, 0.5, 1, 0.0),
        (3, 5, false, 0.01, 9, 0.0),
        (37, 19, false, 1.0, 0, 4.0),
        (5, 257, true, 0.9, 0, 1.0),
    ] {
        let kernel = DrawTokens { rows, k, guided };
        let temperature = 0.9;
        let step = StepScalars { step: 4, temperature, top_p, top_k, purity, ..Default::default() };
        let spread = Fill::Normal { mean: 0.0, std: 1.5 };
        let fills = vec![spread, Fill::Poison, Fill::Poison, Fill::Poison];
        let name =
            format!("{rows} x {k} guided={guided} top_p={top_p} top_k={top_k} purity={purity}");
        cases.push(Case::new(name, kernel, fills).near_ties().with_step(step));
    }
    // Only tokens 5 and 9 are possible, one branch excluding what the other does not.
    let mut logits = vec![f32::NEG_INFINITY; 2 * 12];
    for k in [5, 7, 9] {
        (logits[k], logits[12 + k]) = (0.5, if k == 7 { -3.0e38 } else { k as f32 });
    }
    let kernel = DrawTokens { rows: 1, k: 12, guided: true };
    let fills = vec![Fill::F32(logits), Fill::Poison, Fill::Poison, Fill::Poison];
    cases.push(Case::new("excluded tokens", kernel, fills).near_ties());
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the definition in f64, through all lengths of the run of zeros.
    #[test]
    fn exponentials_keep_their_precision_near_zero() {
        for zeros in 0..105u32 {
            for m in [0u32, 1, 0x2a_aaaa, 0x7f_ffff] {
                let bit = |z: u32| 1u32.checked_shl(31 - z.min(31)).unwrap_or(0);
                let word = if zeros < 9 { bit(zeros) | (m & 0x7f_ffff) } else { m };
                let tail = zeros.saturating_sub(9);
                let mut more = [0u32; 4];
                if tail < 96 {
                    more[tail as usize / 32] = bit(tail % 32);
                }
                let v = unit_interval(word, || more);
                let exact = (1.0 + f64::from(m) / 8_388_608.0) * 0.5f64.powi(zeros as i32 + 1);
                assert_eq!(f64::from(v), exact, "zeros {zeros} m {m}");
                let e = -(-exact).ln_1p();
                // 1 - v rounds by 2^-25 where E >= 2^-6: 2^-19 of it; the series is better.
                let got = f64::from(exponential(v));
                assert!(((got - e) / e).abs() <= 0.5f64.powi(19), "{got} {e}");
            }
        }
    }
}
