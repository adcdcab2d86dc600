//! Gradients of gamma and beta from partial per-channel sums: the last step of group norm (a split
//! is a sample) and of layer norm (a split is a chunk of rows).

use super::cpu::math::vectorised;
use super::{Bind, Case, Const, Cost, Fill, Io, Kernel, Real, flag, int, wrong_binds};
use crate::naive_forms;
use rayon::prelude::*;

/// dgamma[c] = sum over splits of sums[., 0, c], dbeta[c] of sums[., 1, c].
/// Bindings: sums [splits, 2, c], dgamma [c], dbeta [c].
#[derive(Debug, Clone)]
pub struct NormParamGrad {
    pub splits: usize,
    pub c: usize,
    /// Add to dgamma and dbeta instead of writing them.
    pub accum: bool,
}

/// Columns and invocations of a workgroup.
const COLUMNS: usize = 16;
const WG: usize = 256;

impl NormParamGrad {
    fn lanes(&self) -> usize {
        if self.c.is_multiple_of(4) { 4 } else { 1 }
    }

    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(sums), Bind::Out(dgamma), Bind::Out(dbeta), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        for channel in 0..self.c {
            for (row, out) in [&mut *dgamma, &mut *dbeta].into_iter().enumerate() {
                let mut sum = if self.accum { out[channel] } else { T::zero() };
                for split in 0..self.splits {
                    sum += sums[(split * 2 + row) * self.c + channel];
                }
                out[channel] = sum;
            }
        }
    }
}

impl Kernel for NormParamGrad {
    fn name(&self) -> &'static str {
        "norm_param_grad"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/norm_param_grad.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![
            flag("VEC4", self.lanes() == 4),
            int("CHANNELS", self.c),
            int("COLUMNS", COLUMNS),
            int("WG", WG),
            flag("ACCUM", self.accum),
        ]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.splits as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.splits * 2 * self.c, self.c, self.c]
    }
    fn grid(&self) -> [u32; 3] {
        [(self.c / self.lanes()).div_ceil(COLUMNS) as u32, 1, 1]
    }
    fn cost(&self) -> Cost {
        let sums = (self.splits * 2 * self.c) as u64;
        Cost { flops: sums, bytes: 4 * (sums + 2 * self.c as u64) }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [Bind::In(sums), Bind::Out(dgamma), Bind::Out(dbeta), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let (c, accum) = (self.c, self.accum);
        const CHUNK: usize = 256;
        let outputs = dgamma.par_chunks_mut(CHUNK).zip(dbeta.par_chunks_mut(CHUNK));
        outputs.enumerate().for_each(|(i, (dgamma, dbeta))| {
            vectorised(
                #[inline(always)]
                || {
                    for (row, out) in [dgamma, dbeta].into_iter().enumerate() {
                        if !accum {
                            out.fill(0.0);
                        }
                        for split in sums.chunks_exact(2 * c) {
                            let part = &split[row * c + i * CHUNK..][..out.len()];
                            out.iter_mut().zip(part).for_each(|(sum, v)| *sum += v);
                        }
                    }
                },
            );
        });
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (splits, c) in [(1, 1), (1, 4), (2, 41), (17, 64), (33, 55), (15, 68), (70, 260)] {
        for accum in [false, true] {
            let kernel = NormParamGrad { splits, c, accum };
            let fills = |fill: Fill| {
                let out = if accum { fill.clone() } else { Fill::Poison };
                vec![fill, out.clone(), out]
            };
            let name = format!("splits={splits} c={c} accum={accum}");
            let exact =
                Case::new(format!("{name} integers"), kernel.clone(), fills(Fill::Ints(-9, 9)));
            cases.push(exact.exact());
            cases.push(Case::new(name, kernel, fills(Fill::normal())));
        }
    }
    cases
}
