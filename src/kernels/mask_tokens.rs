//! The forward process of masked diffusion: tokens replaced by the mask token.

use super::wrong_binds;
use super::{Bind, Case, Const, Cost, Fill, Io, Kernel, Real, StepScalars, grid_1d, int};
use crate::naive_forms;
use crate::rng::{Stream, philox4x32};

/// Token i of sample b becomes `mask_token` where u < t[b], else stays; its loss weight is w[b]
/// where masked, else 0. u has 24 bits: the high bits of word 0 of philox(counter [i,
/// [`Stream::TokenMask`], step.sample_base + b, 0], key seed). The global sample index already tells
/// the step, so the draw does not depend on how the batch is cut into lanes.
///
/// Bindings: x0 u32 [batch, len], t [batch], w [batch], xt u32 [batch, len], weight [batch, len].
#[derive(Debug, Clone)]
pub struct MaskTokens {
    pub batch: usize,
    pub len: usize,
    pub mask_token: u32,
}

impl MaskTokens {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let step = io.step;
        let [Bind::InU(x0), Bind::In(t), Bind::In(w), Bind::OutU(xt), Bind::Out(weight), ..] =
            &mut io.binds
        else {
            wrong_binds(self.name())
        };
        for b in 0..self.batch {
            let sample = step.sample_base.wrapping_add(b as u32);
            for position in 0..self.len {
                let counter = [position as u32, Stream::TokenMask as u32, sample, 0];
                let bits = philox4x32(counter, [step.seed_lo, step.seed_hi])[0] >> 8;
                let masked = T::of(f64::from(bits) / f64::from(1u32 << 24)) < t[b];
                let i = b * self.len + position;
                xt[i] = if masked { self.mask_token } else { x0[i] };
                weight[i] = if masked { w[b] } else { T::zero() };
            }
        }
    }
}

impl Kernel for MaskTokens {
    fn name(&self) -> &'static str {
        "mask_tokens"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/mask_tokens.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![
            int("LEN", self.len),
            int("MASK_TOKEN", self.mask_token as usize),
            int("STREAM", Stream::TokenMask as usize),
        ]
    }
    fn dims(&self) -> Vec<u32> {
        vec![(self.batch * self.len) as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let n = self.batch * self.len;
        vec![n, self.batch, self.batch, n, n]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.batch * self.len, 256)
    }
    fn cost(&self) -> Cost {
        let n = (self.batch * self.len) as u64;
        Cost { flops: 200 * n, bytes: 12 * n }
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (batch, len, sample_base) in [(1, 1, 0), (3, 41, 17), (8, 64, 1 << 20), (5, 256, u32::MAX)]
    {
        let step = StepScalars { seed_lo: 5, seed_hi: 9, sample_base, ..StepScalars::default() };
        // t = 0 masks nothing, t = 1 everything.
        let t = (0..batch).map(|b| [0.5, 0.0, 1.0, 0.1, 0.9][b % 5]).collect();
        let kernel = MaskTokens { batch, len, mask_token: 512 };
        let fills =
            vec![Fill::Index(512), Fill::F32(t), Fill::normal(), Fill::Poison, Fill::Poison];
        cases.push(Case::new(format!("{batch} x {len}"), kernel, fills).exact().with_step(step));
    }
    cases
}
