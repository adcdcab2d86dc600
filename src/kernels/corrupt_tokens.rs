//! The forward process of a corruption with chance codes and a mask.

use super::posterior_loss::{NOISE, Noise};
use super::wrong_binds;
use super::{Bind, Case, Const, Cost, Fill, Io, Kernel, Real, StepScalars, grid_1d, int};
use crate::naive_forms;
use crate::rng::{Stream, philox4x32};

/// A draw of x_t given x_0: token i of sample b stays where u < alpha, becomes one of the codes by chance
/// where u < alpha + codes * beta, else the mask, `codes`. alpha and beta are alpha_t and beta_t of the
/// sample's noise ([`super::posterior_loss`]). u has 24 bits: the high bits of word 0 of philox(counter
/// [i, [`Stream::TokenMask`], step.sample_base + b, 1], key seed); the code is word 1 modulo `codes`, whose
/// chances are equal to codes / 2^32.
///
/// Bindings: x_0 u32 [samples, length], noise [samples, [`NOISE`]], x_t u32 [samples, length].
#[derive(Debug, Clone)]
pub struct CorruptTokens {
    pub samples: usize,
    pub length: usize,
    pub codes: usize,
}

impl CorruptTokens {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let step = io.step;
        let [Bind::InU(x_0), Bind::In(noise), Bind::OutU(x_t), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        for b in 0..self.samples {
            let Noise { alpha_t: alpha, beta_t: beta, .. } = Noise::of(noise, b);
            let chance = T::of(self.codes as f64) * beta;
            let sample = step.sample_base.wrapping_add(b as u32);
            for position in 0..self.length {
                let counter = [position as u32, Stream::TokenMask as u32, sample, 1];
                let words = philox4x32(counter, [step.seed_lo, step.seed_hi]);
                let u = T::of(f64::from(words[0] >> 8) / f64::from(1u32 << 24));
                let i = b * self.length + position;
                x_t[i] = if u < alpha {
                    x_0[i]
                } else if u < alpha + chance {
                    words[1] % self.codes as u32
                } else {
                    self.codes as u32
                };
            }
        }
    }
}

impl Kernel for CorruptTokens {
    fn name(&self) -> &'static str {
        "corrupt_tokens"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/corrupt_tokens.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![
            int("LEN", self.length),
            int("K", self.codes),
            int("STREAM", Stream::TokenMask as usize),
        ]
    }
    fn dims(&self) -> Vec<u32> {
        vec![(self.samples * self.length) as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let n = self.samples * self.length;
        vec![n, self.samples * NOISE, n]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.samples * self.length, 256)
    }
    fn cost(&self) -> Cost {
        let n = (self.samples * self.length) as u64;
        Cost { flops: 200 * n, bytes: 8 * n }
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (samples, length, sample_base) in
        [(1, 1, 0), (4, 41, 17), (8, 64, 1 << 20), (5, 256, u32::MAX)]
    {
        // Powers of two, whose sums are exact: all kept, all masked, all chance, some of each.
        let (codes, step) = (64, StepScalars { seed_lo: 5, sample_base, ..Default::default() });
        let pairs = [[0.5, 0.25 / 64.0], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0 / 64.0]];
        let row = |[alpha_t, beta_t]: [f32; 2]| {
            Noise { alpha_t, beta_t, ..Noise::of(&[0.0; NOISE], 0) }.words()
        };
        let noise = (0..samples).flat_map(|b| row(pairs[b % 4])).collect();
        let kernel = CorruptTokens { samples, length, codes };
        let fills = vec![Fill::Index(codes as u32), Fill::F32(noise), Fill::Poison];
        cases.push(
            Case::new(format!("{samples} x {length}"), kernel, fills).exact().with_step(step),
        );
    }
    cases
}
