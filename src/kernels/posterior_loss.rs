//! The loss of discrete diffusion, token by token: the divergence of a step back, O(K).
//!
//! Of a chain of [corruptions](crate::diffusion::process), between times s < t, with the truth x_0 = j and
//! x_t seen: let m_k = q(x_t | x_0 = k) and b_k = q(x_t | x_s = k), w_k = p_k / m_k of the model's p_k =
//! softmax(logits)_k and W their sum. The model's law of x_s is M_k = b_k (alpha_s w_k + beta_s W), the
//! true one T_k = b_k (alpha_s [k = j] + beta_s) / m_j; the mask, which no logit moves, has the same in
//! both. Where x_t is the mask all m_k are gamma_t, which cancels: m_k = 1, b_k = mask / gamma_t.
//!
//! value = sum over codes of T_k log(T_k / M_k), weighted by what x_t is; in the first step, whose x_s
//! is x_0, -log M_j. loss = bound * value + auxiliary * -log p_j (weighted likewise; in the first step
//! value again): VQ-Diffusion (2111.14822), section 4.1, in the form of its released code. A code that is
//! seen where beta_t = 0 has no divergence.

use super::cpu::blocks::rows_per_block;
use super::cpu::math::{exp, vectorised};
use super::cpu::reduce::{max, sum, sum_at};
use super::{
    Bind, Caps, Case, Const, Cost, Fill, Io, Kernel, Real, float, grid_1d, int, subgroup,
    wrong_binds,
};
use crate::naive_forms;
use rayon::prelude::*;
use std::sync::Arc;

/// What a sample's step is, in the order of its words on the device (`shaders/lib/noise.wgsl`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise<T> {
    pub alpha_s: T,
    pub beta_s: T,
    pub alpha_t: T,
    pub beta_t: T,
    /// q(x_t | x_s) of a code: alone, to each code by chance.
    pub keep: T,
    pub replace: T,
    /// The mask's share of a step over gamma_t.
    pub reveal: T,
    /// Factors of the divergence and of the cross-entropy beside it.
    pub bound: T,
    pub auxiliary: T,
    /// 1 in the first step, whose x_s is x_0, else 0.
    pub first: T,
}

/// Words of a [`Noise`].
pub const NOISE: usize = 10;

impl<T: Copy> Noise<T> {
    pub fn words(self) -> [T; NOISE] {
        let Noise { alpha_s, beta_s, alpha_t, beta_t, .. } = self;
        let Noise { keep, replace, reveal, bound, auxiliary, first, .. } = self;
        [alpha_s, beta_s, alpha_t, beta_t, keep, replace, reveal, bound, auxiliary, first]
    }

    /// Of a sample, from the words of all.
    #[inline(always)]
    pub fn of(noise: &[T], sample: usize) -> Self {
        let n = &noise[sample * NOISE..][..NOISE];
        Noise {
            alpha_s: n[0],
            beta_s: n[1],
            alpha_t: n[2],
            beta_t: n[3],
            keep: n[4],
            replace: n[5],
            reveal: n[6],
            bound: n[7],
            auxiliary: n[8],
            first: n[9],
        }
    }
}

/// Logarithms of probabilities are no lower, in values: e^-70 is far from what f32 cannot hold.
/// Gradients are as if they were.
pub(super) const LEAST: f32 = -70.0;

/// Sizes and switches of both passes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenRows {
    pub samples: usize,
    /// Tokens a sample.
    pub length: usize,
    pub codes: usize,
    /// Weight of tokens that are masked, and of those that are seen.
    pub weights: [f32; 2],
}

impl TokenRows {
    pub(super) fn rows(&self) -> usize {
        self.samples * self.length
    }

    pub(super) fn consts(&self) -> Vec<Const> {
        vec![
            int("K", self.codes),
            int("LEN", self.length),
            int("WG", self.codes.next_power_of_two().clamp(32, 256)),
            float("MASKED", self.weights[0]),
            float("VISIBLE", self.weights[1]),
            float("LEAST", LEAST),
            subgroup::off(),
        ]
    }
}

/// What a sample's noise says of one of its tokens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token<T> {
    pub noise: Noise<T>,
    pub first: bool,
    pub seen: usize,
    pub truth: usize,
    pub masked: bool,
    /// Of the row.
    pub weight: T,
}

impl<T: Real> Token<T> {
    #[inline(always)]
    pub fn new(of: &TokenRows, noise: &[T], row: usize, truth: &[u32], seen: &[u32]) -> Self {
        let noise = Noise::of(noise, row / of.length);
        let masked = seen[row] as usize == of.codes;
        Token {
            noise,
            first: noise.first != T::zero(),
            seen: seen[row] as usize,
            truth: truth[row] as usize,
            masked,
            weight: T::of(of.weights[usize::from(!masked)].into()),
        }
    }

    #[inline(always)]
    pub fn certain(&self) -> bool {
        !self.masked && self.noise.beta_t == T::zero()
    }

    // Places are compared in 32 bits, as wide as the numbers beside them in a vector register.

    #[inline(always)]
    fn is_truth(&self, k: usize) -> bool {
        k as u32 == self.truth as u32
    }

    /// Never of the mask.
    #[inline(always)]
    fn is_seen(&self, k: usize) -> bool {
        k as u32 == self.seen as u32
    }

    /// m_k.
    #[inline(always)]
    pub fn marginal(&self, k: usize) -> T {
        match (self.masked, self.is_seen(k)) {
            (true, _) => T::one(),
            (false, true) => self.noise.beta_t + self.noise.alpha_t,
            (false, false) => self.noise.beta_t,
        }
    }

    /// b_k.
    #[inline(always)]
    pub fn back(&self, k: usize) -> T {
        match (self.masked, self.is_seen(k)) {
            (true, _) => self.noise.reveal,
            (false, true) => self.noise.replace + self.noise.keep,
            (false, false) => self.noise.replace,
        }
    }

    /// T_k / b_k.
    #[inline(always)]
    pub fn real(&self, k: usize) -> T {
        // Two quotients, which a loop over k need not repeat.
        let (m, Noise { alpha_s, beta_s, .. }) = (self.marginal(self.truth), self.noise);
        let (own, other) = ((beta_s + alpha_s) / m, beta_s / m);
        if self.is_truth(k) { own } else { other }
    }

    /// M_k / b_k.
    #[inline(always)]
    pub fn made(&self, w: T, total: T) -> T {
        self.noise.alpha_s * w + self.noise.beta_s * total
    }
}

/// Bindings: logits [rows, codes], x_0 u32 [rows], x_t u32 [rows] (mask: `codes`), noise [samples,
/// [`NOISE`]], value [rows], loss [rows], stats [rows, 2] = log sum exp and W for the gradient.
#[derive(Debug, Clone)]
pub struct PosteriorLoss {
    pub of: TokenRows,
}

impl PosteriorLoss {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [
            Bind::In(logits),
            Bind::InU(truth),
            Bind::InU(seen),
            Bind::In(noise),
            Bind::Out(value),
            Bind::Out(loss),
            Bind::Out(stats),
            ..,
        ] = &mut io.binds
        else {
            wrong_binds(self.name())
        };
        for (row, logits) in logits.chunks_exact(self.of.codes).enumerate() {
            let token = Token::new(&self.of, noise, row, truth, seen);
            let highest = logits.iter().fold(logits[0], |a, &b| a.maximum(b));
            let mut mass = T::zero();
            for &l in logits {
                mass += (l - highest).exp();
            }
            let lse = highest + mass.ln();
            let log_p = |k: usize| (logits[k] - lse).maximum(T::of(LEAST.into()));
            let w = |k: usize| log_p(k).exp() / token.marginal(k);
            let (mut total, mut divergence) = (T::zero(), T::zero());
            if !token.certain() {
                for k in 0..logits.len() {
                    total += w(k);
                }
                for k in (0..logits.len()).filter(|&k| token.real(k) > T::zero()) {
                    let ratio = token.real(k) / token.made(w(k), total);
                    divergence += token.back(k) * token.real(k) * ratio.ln();
                }
            }
            let j = token.truth;
            let mut entropy = -(token.weight * log_p(j));
            value[row] = token.weight * divergence;
            if token.first {
                value[row] = match token.certain() {
                    true => T::zero(),
                    false => -(token.back(j) * token.made(w(j), total)).ln(),
                };
                entropy = value[row];
            }
            loss[row] = token.noise.bound * value[row] + token.noise.auxiliary * entropy;
            (stats[2 * row], stats[2 * row + 1]) = (lse, total);
        }
    }
}

impl Kernel for PosteriorLoss {
    fn name(&self) -> &'static str {
        "posterior_loss"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/posterior_loss.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        self.of.consts()
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.of.rows() as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let rows = self.of.rows();
        vec![rows * self.of.codes, rows, rows, self.of.samples * NOISE, rows, rows, 2 * rows]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.of.rows(), 1)
    }
    fn cost(&self) -> Cost {
        let (rows, k) = (self.of.rows() as u64, self.of.codes as u64);
        Cost { flops: 30 * rows * k, bytes: 4 * rows * (k + 6) }
    }
    fn variants(&self, caps: &Caps) -> Vec<Arc<dyn Kernel>> {
        subgroup::offer(self, caps)
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [
            Bind::In(logits),
            Bind::InU(truth),
            Bind::InU(seen),
            Bind::In(noise),
            Bind::Out(value),
            Bind::Out(loss),
            Bind::Out(stats),
            ..,
        ] = &mut io.binds
        else {
            wrong_binds(self.name())
        };
        let (of, k, block) = (self.of, self.of.codes, rows_per_block(self.of.codes));
        let (logits, truth, seen, noise) = (*logits, *truth, *seen, *noise);
        let outputs = value.par_chunks_mut(block).zip(loss.par_chunks_mut(block));
        let outputs = outputs.zip(stats.par_chunks_mut(2 * block)).enumerate();
        outputs.for_each(|(b, ((value, loss), stats))| {
            let rows = value.iter_mut().zip(loss).zip(stats.as_chunks_mut::<2>().0);
            for (row, ((value, loss), stats)) in (b * block..).zip(rows) {
                let token = Token::new(&of, noise, row, truth, seen);
                let logits = &logits[row * k..][..k];
                let (lse, total) = vectorised(
                    #[inline(always)]
                    || sums(&token, logits),
                );
                // A truth past the row is data gone wrong: the loss shows it.
                let logit = logits.get(token.truth).copied().unwrap_or(f32::NAN);
                let log_p = (logit - lse).max(LEAST);
                let mut entropy = -(token.weight * log_p);
                *value = token.weight * divergence(&token, logits, lse, total);
                if token.first {
                    let w = log_p.exp() / token.marginal(token.truth);
                    *value = match token.certain() {
                        true => 0.0,
                        false => -(token.back(token.truth) * token.made(w, total)).ln(),
                    };
                    entropy = *value;
                }
                *loss = token.noise.bound * *value + token.noise.auxiliary * entropy;
                *stats = [lse, total];
            }
        });
    }
    naive_forms!();
}

/// p_k of a logit and the log sum exp of its row.
#[inline(always)]
pub(super) fn probability(logit: f32, lse: f32) -> f32 {
    exp(if logit - lse < LEAST { LEAST } else { logit - lse })
}

/// log sum exp of the logits, and W.
#[inline(always)]
fn sums(token: &Token<f32>, logits: &[f32]) -> (f32, f32) {
    let highest = max(logits);
    let lse = highest + sum(logits, |l| exp(l - highest)).ln();
    if token.certain() {
        return (lse, 0.0);
    }
    (lse, sum_at(logits, |k, l| probability(l, lse) / token.marginal(k)))
}

fn divergence(token: &Token<f32>, logits: &[f32], lse: f32, total: f32) -> f32 {
    if token.certain() || token.first {
        return 0.0;
    }
    let term = |k: usize| {
        let w = (logits[k] - lse).max(LEAST).exp() / token.marginal(k);
        let ratio = token.real(k) / token.made(w, total);
        token.back(k) * token.real(k) * ratio.ln()
    };
    if token.noise.beta_s == 0.0 {
        // Only the truth is possible.
        return if token.truth < logits.len() { term(token.truth) } else { f32::NAN };
    }
    (0..logits.len()).map(term).sum()
}

/// A step of some chain: alpha and gamma of s and t.
fn between(codes: usize, [alpha_s, gamma_s]: [f64; 2], [alpha_t, gamma_t]: [f64; 2]) -> Noise<f32> {
    let chance = |alpha: f64, gamma: f64| (1.0 - alpha - gamma).max(0.0) / codes as f64;
    let (beta_s, beta_t) = (chance(alpha_s, gamma_s), chance(alpha_t, gamma_t));
    let keep = alpha_t / alpha_s;
    let mask = 1.0 - (1.0 - gamma_t) / (1.0 - gamma_s);
    let reveal = if gamma_t > 0.0 { mask / gamma_t } else { 0.0 };
    let replace = if beta_t > 0.0 { (1.0 - keep - mask) / codes as f64 } else { 0.0 };
    Noise {
        alpha_s: alpha_s as f32,
        beta_s: beta_s as f32,
        alpha_t: alpha_t as f32,
        beta_t: beta_t as f32,
        keep: keep as f32,
        replace: replace as f32,
        reveal: reveal as f32,
        bound: 1.0,
        auxiliary: 0.0,
        first: 0.0,
    }
}

/// Samples of every kind of chain, in the middle and in the first step.
pub(super) fn noises(samples: usize, codes: usize) -> Vec<f32> {
    let mixed = between(codes, [0.5, 0.25], [0.375, 0.5]);
    let first = between(codes, [1.0, 0.0], [0.9, 0.05]);
    let absorbing = between(codes, [0.75, 0.25], [0.5, 0.5]);
    let uniform = between(codes, [0.75, 0.0], [0.25, 0.0]);
    let kinds = [
        Noise { bound: 1.25, auxiliary: 0.5, ..mixed },
        Noise { bound: 2.0, auxiliary: 0.25, first: 1.0, ..first },
        Noise { bound: 1.5, ..absorbing },
        Noise { bound: 0.75, auxiliary: 1e-3, ..uniform },
    ];
    kinds.into_iter().flat_map(Noise::words).cycle().take(samples * NOISE).collect()
}

/// Truths, and what is seen of them: the mask, the truth, another code. A uniform corruption has no
/// mask.
pub(super) fn tokens(samples: usize, length: usize, codes: usize) -> [Fill; 2] {
    let (mut truth, mut seen) = (vec![], vec![]);
    for row in 0..samples * length {
        let (sample, own) = (row / length % 4, row * 7 % codes);
        truth.push(own as u32);
        let other = (own + 1 + row % (codes - 1).max(1)) % codes;
        seen.push(match (row % 3, sample) {
            // In an absorbing chain a code that is seen is the truth.
            (0, 0..=2) | (2, 2) => codes,
            (1, _) => own,
            _ => other,
        } as u32);
    }
    [Fill::U32(truth), Fill::U32(seen)]
}

pub(super) const SIZES: [(usize, usize, usize); 6] =
    [(4, 1, 2), (4, 3, 5), (8, 6, 16), (4, 7, 41), (4, 2, 257), (8, 3, 1030)];

pub(super) fn of((samples, length, codes): (usize, usize, usize)) -> TokenRows {
    TokenRows { samples, length, codes, weights: [1.0, 0.5] }
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for size in SIZES {
        let (samples, length, codes) = size;
        let [truth, seen] = tokens(samples, length, codes);
        // Logits this far apart have probabilities that f32 cannot hold.
        for (data, std) in [("", 1.0), (" extreme", 60.0)] {
            let logits = Fill::Normal { mean: 0.0, std };
            let noise = Fill::F32(noises(samples, codes));
            let mut fills = vec![logits, truth.clone(), seen.clone(), noise];
            fills.extend([Fill::Poison, Fill::Poison, Fill::Poison]);
            let name = format!("{samples} x {length} x {codes}{data}");
            cases.push(Case::new(name, PosteriorLoss { of: of(size) }, fills));
        }
    }
    cases
}
