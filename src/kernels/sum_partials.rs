//! The second stage of sums that were split over workgroups.

use super::copy::Copy;
use super::{Bind, Case, Const, Cost, Expr, Fill, Io, Kernel, Real, flag, grid_1d, wrong_binds};
use crate::naive_forms;
use rayon::prelude::*;

/// `y[i] = sum_s partials[s][i]`, in the order of s. Bindings: partials `[splits, n]`, y `[n]`.
#[derive(Debug, Clone)]
pub struct SumPartials {
    pub splits: usize,
    pub n: usize,
    /// Add to y instead of writing it.
    pub accum: bool,
}

impl SumPartials {
    fn width(&self) -> usize {
        if self.n.is_multiple_of(4) { 4 } else { 1 }
    }

    pub(super) fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(partials), Bind::Out(y), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        for i in 0..self.n {
            let mut sum = if self.accum { y[i] } else { T::zero() };
            for s in 0..self.splits {
                sum += partials[s * self.n + i];
            }
            y[i] = sum;
        }
    }
}

impl Kernel for SumPartials {
    fn name(&self) -> &'static str {
        "sum_partials"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/sum_partials.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![flag("VEC4", self.width() == 4), flag("ACCUM", self.accum)]
    }
    fn dims(&self) -> Vec<u32> {
        vec![(self.n / self.width()) as u32, self.splits as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.splits * self.n, self.n]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.n / self.width(), 64)
    }
    fn cost(&self) -> Cost {
        let words = self.n * (self.splits + 1 + usize::from(self.accum));
        Cost { flops: (self.n * self.splits) as u64, bytes: 4 * words as u64 }
    }
    /// A sum of one is a copy.
    fn elementwise(&self) -> Option<Expr> {
        if self.splits > 1 {
            return None;
        }
        Copy { n: self.n, accum: self.accum }.elementwise()
    }
    fn partial_sums(&self) -> Option<SumPartials> {
        Some(self.clone())
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        /// Elements of y that stay in the first cache while the partials stream past.
        const CHUNK: usize = 2048;
        let [Bind::In(partials), Bind::Out(y), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let partials: &[f32] = partials;
        y.par_chunks_mut(CHUNK).enumerate().for_each(|(i, y)| {
            for s in 0..self.splits {
                let partial = &partials[s * self.n + i * CHUNK..][..y.len()];
                if s == 0 && !self.accum {
                    y.copy_from_slice(partial);
                } else {
                    y.iter_mut().zip(partial).for_each(|(y, p)| *y += p);
                }
            }
        });
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (splits, n) in [(1, 1), (2, 41), (7, 256), (55, 4100)] {
        for accum in [false, true] {
            let kernel = SumPartials { splits, n, accum };
            let name = format!("splits={splits} n={n} accum={accum}");
            cases.push(if accum {
                Case::new(name, kernel, vec![Fill::normal(), Fill::normal()])
            } else {
                Case::new(name, kernel, vec![Fill::Ints(-9, 9), Fill::Poison]).exact()
            });
        }
    }
    cases
}
