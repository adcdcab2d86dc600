//! Gradient of a squared difference with respect to its first operand.

use super::binary::BinaryOp;
use super::{
    Bind, Case, Const, Cost, Expr, Fill, Io, Kernel, Real, flag, float, grid_1d, wrong_binds,
};
use crate::naive_forms;
use rayon::prelude::*;

/// da (+)= factor dloss (a - b): bindings a [n], b [n], dloss [1], da [n]. For the loss
/// c sum (a - b)^2 the factor is 2c; the gradient of b is the same with a and b exchanged.
#[derive(Debug, Clone)]
pub struct MseGrad {
    pub n: usize,
    /// Finite.
    pub factor: f32,
    /// Add to da instead of writing it.
    pub accum: bool,
}

impl MseGrad {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(a), Bind::In(b), Bind::In(dloss), Bind::Out(da), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        for i in 0..self.n {
            let g = T::of(self.factor.into()) * dloss[0] * (a[i] - b[i]);
            da[i] = if self.accum { da[i] + g } else { g };
        }
    }
}

impl Kernel for MseGrad {
    fn name(&self) -> &'static str {
        "mse_grad"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/mse_grad.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![float("FACTOR", self.factor), flag("ACCUM", self.accum)]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.n as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.n, self.n, 1, self.n]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.n, 256)
    }
    fn cost(&self) -> Cost {
        let (n, accum) = (self.n as u64, u64::from(self.accum));
        Cost { flops: (2 + accum) * n, bytes: (3 + accum) * 4 * n }
    }
    fn elementwise(&self) -> Option<Expr> {
        let mut expr = Expr::default();
        let [a, b, dloss] = [0, 1, 2].map(|k| expr.load(k));
        let scale = expr.scaled(self.factor, dloss);
        let difference = expr.binary(BinaryOp::Sub, a, b);
        let g = expr.binary(BinaryOp::Mul, scale, difference);
        Some(expr.store(g, self.accum))
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        const CHUNK: usize = 16_384;
        let [Bind::In(a), Bind::In(b), Bind::In(dloss), Bind::Out(da), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let scale = self.factor * dloss[0];
        let inputs = a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK));
        da.par_chunks_mut(CHUNK).zip(inputs).for_each(|(da, (a, b))| {
            for ((da, &a), &b) in da.iter_mut().zip(a).zip(b) {
                let g = scale * (a - b);
                *da = if self.accum { *da + g } else { g };
            }
        });
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (n, factor) in [(1, 2.0), (61, 2.0 / 61.0), (1025, -0.5)] {
        for accum in [false, true] {
            let out = if accum { Fill::normal() } else { Fill::Poison };
            cases.push(Case::new(
                format!("n={n} accum={accum}"),
                MseGrad { n, factor, accum },
                vec![Fill::normal(), Fill::normal(), Fill::normal(), out],
            ));
        }
    }
    cases
}
