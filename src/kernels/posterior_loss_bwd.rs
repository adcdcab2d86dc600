//! The gradient of [`super::posterior_loss`], in its notation.

use super::cpu::blocks::rows_per_block;
use super::cpu::math::vectorised;
use super::cpu::reduce::sum_at;
use super::posterior_loss::{
    LEAST, NOISE, SIZES, Token, TokenRows, noises, of, probability, tokens,
};
use super::{
    Bind, Caps, Case, Const, Cost, Fill, Io, Kernel, Real, flag, grid_1d, subgroup, wrong_binds,
};
use crate::naive_forms;
use rayon::prelude::*;
use std::sync::Arc;

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
                        p(k) * mass
                            - w(k) * (token.noise.alpha_s * ratio(k) + token.noise.beta_s * ratios)
                    }
                };
                let d = match token.first {
                    true => (token.noise.bound + token.noise.auxiliary) * bound,
                    false => {
                        token.weight * (token.noise.bound * bound + token.noise.auxiliary * entropy)
                    }
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

/// Adds the gradient of one row.
#[inline(always)]
fn gradient(token: &Token<f32>, logits: &[f32], stats: [f32; 2], dloss: f32, d: &mut [f32]) {
    let ([lse, total], noise, truth) = (stats, token.noise, token.truth);
    // A truth past the row is data gone wrong: the gradient shows it.
    if truth >= logits.len() {
        d.fill(f32::NAN);
        return;
    }
    let onehot = |k: usize| if k as u32 == truth as u32 { 1.0 } else { 0.0 };
    let (bound, auxiliary) = match token.first {
        true => (dloss * (noise.bound + noise.auxiliary), 0.0),
        false => (dloss * token.weight * noise.bound, dloss * token.weight * noise.auxiliary),
    };
    if token.certain() {
        for (k, (d, &l)) in d.iter_mut().zip(logits).enumerate() {
            *d += auxiliary * (probability(l, lse) - onehot(k));
        }
        return;
    }
    // T_k, and b_k r_k of a code whose w_k is given. In the first step beta_s = 0 makes the truth the only
    // code that T_k is not 0 of, and there it is 1.
    let real = |k: usize| token.back(k) * token.real(k);
    let ratio = |k: usize, w: f32| real(k) / token.made(w, total);
    let w = |k: usize, p: f32| p / token.marginal(k);
    let (mass, ratios) = match noise.beta_s == 0.0 {
        true => (real(truth), ratio(truth, w(truth, probability(logits[truth], lse)))),
        false => (
            sum_at(logits, |k, _| real(k)),
            sum_at(logits, |k, l| ratio(k, w(k, probability(l, lse)))),
        ),
    };
    for (k, (d, &l)) in d.iter_mut().zip(logits).enumerate() {
        let p = probability(l, lse);
        let w = w(k, p);
        let divergence = p * mass - w * (noise.alpha_s * ratio(k, w) + noise.beta_s * ratios);
        *d += bound * divergence + auxiliary * (p - onehot(k));
    }
}

pub fn cases() -> Vec<Case> {
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
