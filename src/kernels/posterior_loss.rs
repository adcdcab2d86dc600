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
use super::cpu::reduce::{max, sum};
use super::{
    Bind, Caps, Case, Const, Cost, Fill, Io, Kernel, Real, flag, float, grid_1d, int, subgroup,
    wrong_binds,
};
use crate::naive_forms;
use rayon::prelude::*;
use std::sync::Arc;

/// Words of a sample's noise: alpha_s, beta_s, alpha_t, beta_t, keep, replace, reveal = mask / gamma_t,
/// the factors of the bound and of the auxiliary term, and 1 for the first step, else 0.
pub const NOISE: usize = 10;

/// Logarithms of probabilities are no lower, in values: e^-70 is far from what f32 cannot hold.
/// Gradients are as if they were.
const LEAST: f32 = -70.0;

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
    fn rows(&self) -> usize {
        self.samples * self.length
    }

    fn consts(&self) -> Vec<Const> {
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
struct Token<T> {
    alpha_s: T,
    beta_s: T,
    alpha_t: T,
    beta_t: T,
    keep: T,
    replace: T,
    reveal: T,
    bound: T,
    auxiliary: T,
    first: bool,
    seen: usize,
    truth: usize,
    masked: bool,
    /// Of the row.
    weight: T,
}

impl<T: Real> Token<T> {
    #[inline(always)]
    fn new(of: &TokenRows, noise: &[T], row: usize, truth: &[u32], seen: &[u32]) -> Self {
        let n = &noise[row / of.length * NOISE..][..NOISE];
        let masked = seen[row] as usize == of.codes;
        Token {
            alpha_s: n[0],
            beta_s: n[1],
            alpha_t: n[2],
            beta_t: n[3],
            keep: n[4],
            replace: n[5],
            reveal: n[6],
            bound: n[7],
            auxiliary: n[8],
            first: n[9] != T::zero(),
            seen: seen[row] as usize,
            truth: truth[row] as usize,
            masked,
            weight: T::of(of.weights[usize::from(!masked)].into()),
        }
    }

    #[inline(always)]
    fn certain(&self) -> bool {
        !self.masked && self.beta_t == T::zero()
    }

    /// m_k.
    #[inline(always)]
    fn marginal(&self, k: usize) -> T {
        match (self.masked, k == self.seen) {
            (true, _) => T::one(),
            (false, true) => self.beta_t + self.alpha_t,
            (false, false) => self.beta_t,
        }
    }

    /// b_k.
    #[inline(always)]
    fn back(&self, k: usize) -> T {
        match (self.masked, k == self.seen) {
            (true, _) => self.reveal,
            (false, true) => self.replace + self.keep,
            (false, false) => self.replace,
        }
    }

    /// T_k / b_k.
    #[inline(always)]
    fn real(&self, k: usize) -> T {
        let own = if k == self.truth { self.beta_s + self.alpha_s } else { self.beta_s };
        own / self.marginal(self.truth)
    }

    /// M_k / b_k.
    #[inline(always)]
    fn made(&self, w: T, total: T) -> T {
        self.alpha_s * w + self.beta_s * total
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
            loss[row] = token.bound * value[row] + token.auxiliary * entropy;
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
                *loss = token.bound * *value + token.auxiliary * entropy;
                *stats = [lse, total];
            }
        });
    }
    naive_forms!();
}

/// log sum exp of the logits, and W.
#[inline(always)]
fn sums(token: &Token<f32>, logits: &[f32]) -> (f32, f32) {
    let highest = max(logits);
    let lse = highest + sum(logits, |l| exp(l - highest)).ln();
    if token.certain() {
        return (lse, 0.0);
    }
    let p = |l: f32| exp(if l - lse < LEAST { LEAST } else { l - lse });
    // All codes but the one that is seen have one marginal.
    let all = sum(logits, p);
    if token.masked {
        return (lse, all);
    }
    let before = sum(&logits[..token.seen], p);
    let after = sum(&logits[token.seen + 1..], p);
    let own = p(logits[token.seen]);
    (lse, (before + after) / token.beta_t + own / (token.beta_t + token.alpha_t))
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
    if token.beta_s == 0.0 {
        // Only the truth is possible.
        return if token.truth < logits.len() { term(token.truth) } else { f32::NAN };
    }
    (0..logits.len()).map(term).sum()
}

/// dlogits (+)= dloss dloss/dlogits. With r_k = T_k / M_k (over its b_k), R = sum b_k r_k and T = sum T_k,
/// the divergence has the gradient p_k T - w_k (alpha_s b_k r_k + beta_s R); in the first step T = 1 and
/// R = r_j alone.
/// Bindings: logits, x_0, x_t, noise, stats, dloss [rows], dlogits [rows, codes].
#[derive(Debug, Clone)]
pub struct PosteriorLossBwd {
    pub of: TokenRows,
    /// Add to dlogits instead of writing it.
    pub accum: bool,
}

impl PosteriorLossBwd {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [
            Bind::In(logits),
            Bind::InU(truth),
            Bind::InU(seen),
            Bind::In(noise),
            Bind::In(stats),
            Bind::In(dloss),
            Bind::Out(dlogits),
            ..,
        ] = &mut io.binds
        else {
            wrong_binds(self.name())
        };
        let codes = self.of.codes;
        for row in 0..self.of.rows() {
            let token = Token::new(&self.of, noise, row, truth, seen);
            let (lse, total) = (stats[2 * row], stats[2 * row + 1]);
            let p = |k: usize| (logits[row * codes + k] - lse).maximum(T::of(LEAST.into())).exp();
            let w = |k: usize| p(k) / token.marginal(k);
            // b_k r_k, of which the first step has that of the truth alone.
            let ratio = |k: usize| match (token.first, k == token.truth) {
                (true, false) => T::zero(),
                (true, true) => T::one() / token.made(w(k), total),
                (false, _) => token.back(k) * token.real(k) / token.made(w(k), total),
            };
            let (mut mass, mut ratios) = (T::zero(), T::zero());
            if !token.certain() {
                for k in 0..codes {
                    mass += token.back(k) * token.real(k);
                    ratios += ratio(k);
                }
            }
            if token.first {
                mass = T::one();
            }
            for k in 0..codes {
                let onehot = if k == token.truth { T::one() } else { T::zero() };
                let entropy = p(k) - onehot;
                let bound = match token.certain() {
                    true => T::zero(),
                    false => {
                        p(k) * mass - w(k) * (token.alpha_s * ratio(k) + token.beta_s * ratios)
                    }
                };
                let d = match token.first {
                    true => (token.bound + token.auxiliary) * bound,
                    false => token.weight * (token.bound * bound + token.auxiliary * entropy),
                };
                let (i, d) = (row * codes + k, dloss[row] * d);
                dlogits[i] = if self.accum { dlogits[i] + d } else { d };
            }
        }
    }
}

impl Kernel for PosteriorLossBwd {
    fn name(&self) -> &'static str {
        "posterior_loss_bwd"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/posterior_loss_bwd.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        let mut consts = self.of.consts();
        consts.push(flag("ACCUM", self.accum));
        consts
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.of.rows() as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let (rows, all) = (self.of.rows(), self.of.rows() * self.of.codes);
        vec![all, rows, rows, self.of.samples * NOISE, 2 * rows, rows, all]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.of.rows(), 1)
    }
    fn cost(&self) -> Cost {
        let (rows, k) = (self.of.rows() as u64, self.of.codes as u64);
        Cost { flops: 30 * rows * k, bytes: (8 + 4 * u64::from(self.accum)) * rows * k }
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
            Bind::In(stats),
            Bind::In(dloss),
            Bind::Out(dlogits),
            ..,
        ] = &mut io.binds
        else {
            wrong_binds(self.name())
        };
        let (of, accum, k) = (self.of, self.accum, self.of.codes);
        let (logits, truth, seen, noise) = (*logits, *truth, *seen, *noise);
        let (stats, dloss, block) = (*stats, *dloss, rows_per_block(k));
        dlogits.par_chunks_mut(block * k).enumerate().for_each(|(b, dlogits)| {
            vectorised(
                #[inline(always)]
                || {
                    for (row, d) in (b * block..).zip(dlogits.chunks_exact_mut(k)) {
                        if !accum {
                            d.fill(0.0);
                        }
                        let token = Token::new(&of, noise, row, truth, seen);
                        let stats = [stats[2 * row], stats[2 * row + 1]];
                        gradient(&token, &logits[row * k..][..k], stats, dloss[row], d);
                    }
                },
            );
        });
    }
    naive_forms!();
}

/// Adds the gradient of one row. All codes but the truth and the one that is seen share m, b and the
/// numerator of r: they are one loop, and those two are mended after it.
#[inline(always)]
fn gradient(token: &Token<f32>, logits: &[f32], stats: [f32; 2], dloss: f32, d: &mut [f32]) {
    let [lse, total] = stats;
    let p = |l: f32| exp(if l - lse < LEAST { LEAST } else { l - lse });
    let (truth, codes) = (token.truth, logits.len());
    if truth >= codes {
        d.fill(f32::NAN);
        return;
    }
    let (bound, auxiliary) = match token.first {
        true => (dloss * (token.bound + token.auxiliary), 0.0),
        false => (dloss * token.weight * token.bound, dloss * token.weight * token.auxiliary),
    };
    let before = [truth, token.seen].map(|k| d.get(k).copied());
    if token.certain() {
        for (d, &l) in d.iter_mut().zip(logits) {
            *d += auxiliary * p(l);
        }
        if let Some(before) = before[0] {
            d[truth] = before + auxiliary * (p(logits[truth]) - 1.0);
        }
        return;
    }
    // b_k r_k of a code whose m, b and numerator are given.
    let ratio = |p: f32, marginal: f32, real: f32| real / token.made(p / marginal, total);
    let own = |k: usize| match (token.first, k == truth) {
        (true, false) => 0.0,
        (true, true) => ratio(p(logits[k]), token.marginal(k), 1.0),
        (false, _) => ratio(p(logits[k]), token.marginal(k), token.back(k) * token.real(k)),
    };
    // A code that is neither.
    let (marginal, back) = match token.masked {
        true => (1.0, token.reveal),
        false => (token.beta_t, token.replace),
    };
    let real = if token.first { 0.0 } else { back * token.beta_s / token.marginal(truth) };
    let special = |k: usize| k == truth || k == token.seen;
    let mut ratios = own(truth);
    let mut mass = token.back(truth) * token.real(truth);
    if !token.masked && token.seen != truth {
        ratios += own(token.seen);
        mass += token.back(token.seen) * token.real(token.seen);
    }
    if real != 0.0 {
        let specials = 1 + usize::from(!token.masked && token.seen != truth);
        mass += (codes - specials) as f32 * real;
        let mut ends = [truth, if token.masked { truth } else { token.seen }];
        ends.sort_unstable();
        let [low, high] = ends;
        let inner = if high > low { &logits[low + 1..high] } else { &[][..] };
        for part in [&logits[..low], inner, &logits[high + 1..]] {
            ratios += sum(part, |l| ratio(p(l), marginal, real));
        }
    }
    if token.first {
        mass = 1.0;
    }
    let one = |p: f32, marginal: f32, own: f32| {
        p * mass - p / marginal * (token.alpha_s * own + token.beta_s * ratios)
    };
    for (d, &l) in d.iter_mut().zip(logits) {
        let p = p(l);
        let own = ratio(p, marginal, real);
        *d += bound * one(p, marginal, own) + auxiliary * p;
    }
    for (k, before) in [truth, token.seen].into_iter().zip(before) {
        let Some(before) = before.filter(|_| special(k)) else { continue };
        let p = p(logits[k]);
        let onehot = if k == truth { 1.0 } else { 0.0 };
        d[k] = before + bound * one(p, token.marginal(k), own(k)) + auxiliary * (p - onehot);
    }
}

/// A step of some chain: alpha and gamma of s and t.
fn noise(codes: usize, [alpha_s, gamma_s]: [f64; 2], [alpha_t, gamma_t]: [f64; 2]) -> [f32; 7] {
    let chance = |alpha: f64, gamma: f64| (1.0 - alpha - gamma).max(0.0) / codes as f64;
    let (beta_s, beta_t) = (chance(alpha_s, gamma_s), chance(alpha_t, gamma_t));
    let keep = alpha_t / alpha_s;
    let mask = 1.0 - (1.0 - gamma_t) / (1.0 - gamma_s);
    let reveal = if gamma_t > 0.0 { mask / gamma_t } else { 0.0 };
    let replace = if beta_t > 0.0 { (1.0 - keep - mask) / codes as f64 } else { 0.0 };
    [alpha_s, beta_s, alpha_t, beta_t, keep, replace, reveal].map(|v| v as f32)
}

/// Samples of every kind of chain, in the middle and in the first step.
fn steps(codes: usize) -> Vec<f32> {
    let steps = [
        (noise(codes, [0.5, 0.25], [0.375, 0.5]), 1.25, 0.5, 0.0),
        (noise(codes, [1.0, 0.0], [0.9, 0.05]), 2.0, 0.25, 1.0),
        // Absorbing, and uniform.
        (noise(codes, [0.75, 0.25], [0.5, 0.5]), 1.5, 0.0, 0.0),
        (noise(codes, [0.75, 0.0], [0.25, 0.0]), 0.75, 1e-3, 0.0),
    ];
    let row = |(n, bound, auxiliary, first): ([f32; 7], f32, f32, f32)| {
        n.into_iter().chain([bound, auxiliary, first])
    };
    steps.into_iter().flat_map(row).collect()
}

/// Truths, and what is seen of them: the mask, the truth, another code. A uniform corruption has no
/// mask.
fn tokens(samples: usize, length: usize, codes: usize) -> [Fill; 2] {
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

const SIZES: [(usize, usize, usize); 6] =
    [(4, 1, 2), (4, 3, 5), (8, 6, 16), (4, 7, 41), (4, 2, 257), (8, 3, 1030)];

fn of((samples, length, codes): (usize, usize, usize)) -> TokenRows {
    TokenRows { samples, length, codes, weights: [1.0, 0.5] }
}

fn noises(samples: usize, codes: usize) -> Vec<f32> {
    steps(codes).into_iter().cycle().take(samples * NOISE).collect()
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

pub fn bwd_cases() -> Vec<Case> {
    let mut cases = vec![];
    for size in SIZES {
        let (samples, length, codes) = size;
        for accum in [false, true] {
            let of = of(size);
            // Logits that are logarithms of probabilities already: stats follow by hand.
            let p = |k: usize| (1 + k % 3) as f32;
            let all: f32 = (0..codes).map(p).sum();
            let logits: Vec<f32> = (0..codes).map(|k| (p(k) / all).ln()).collect();
            let logits: Vec<f32> = (0..of.rows()).flat_map(|_| logits.iter().copied()).collect();
            let [Fill::U32(truth), Fill::U32(seen)] = tokens(samples, length, codes) else {
                unreachable!("tokens are integers")
            };
            let noise = noises(samples, codes);
            let mut stats = vec![];
            for row in 0..of.rows() {
                let token = Token::new(&of, &noise, row, &truth, &seen);
                let own: f32 = (0..codes).map(|k| p(k) / all / token.marginal(k)).sum();
                stats.extend([0.0, if token.certain() { 0.0 } else { own }]);
            }
            let fills = vec![
                Fill::F32(logits),
                Fill::U32(truth),
                Fill::U32(seen),
                Fill::F32(noise),
                Fill::F32(stats),
                Fill::Uniform(0.5, 1.5),
                if accum { Fill::normal() } else { Fill::Poison },
            ];
            let name = format!("{samples} x {length} x {codes} accum={accum}");
            cases.push(Case::new(name, PosteriorLossBwd { of, accum }, fills));
        }
    }
    cases
}
