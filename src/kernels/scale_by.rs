//! Scaling by a scalar that lives on the device: an upstream loss coefficient, a learned scale.

use super::binary::BinaryOp;
use super::{
    Bind, Case, Const, Cost, Expr, Fill, Io, Kernel, Real, bindings, flag, float, grid_1d,
    wrong_binds,
};
use crate::naive_forms;
use rayon::prelude::*;

/// y (+)= factor s x: bindings x [n], s [1], y [n].
#[derive(Debug, Clone)]
pub struct ScaleBy {
    pub n: usize,
    /// Finite.
    pub factor: f32,
    /// Add to y instead of writing it.
    pub accum: bool,
}

impl ScaleBy {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(x), Bind::In(s), Bind::Out(y), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        for (y, &x) in y.iter_mut().zip(x.iter()) {
            let v = T::of(self.factor.into()) * s[0] * x;
            *y = if self.accum { *y + v } else { v };
        }
    }
}

impl Kernel for ScaleBy {
    fn name(&self) -> &'static str {
        "scale_by"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/scale_by.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![float("FACTOR", self.factor), flag("ACCUM", self.accum)]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.n as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.n, 1, self.n]
    }
    fn half_ok(&self) -> u32 {
        bindings(&[0, 2])
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.n, 256)
    }
    fn cost(&self) -> Cost {
        let (n, accum) = (self.n as u64, u64::from(self.accum));
        Cost { flops: (1 + accum) * n, bytes: (2 + accum) * 4 * n }
    }
    fn elementwise(&self) -> Option<Expr> {
        let mut expr = Expr::default();
        let (x, s) = (expr.load(0), expr.load(1));
        let scale = expr.scaled(self.factor, s);
        let v = expr.binary(BinaryOp::Mul, scale, x);
        Some(expr.store(v, self.accum))
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        const CHUNK: usize = 16_384;
        let [Bind::In(x), Bind::In(s), Bind::Out(y), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let scale = self.factor * s[0];
        y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| {
            let each = y.iter_mut().zip(x);
            if self.accum {
                each.for_each(|(y, &x)| *y += scale * x);
            } else {
                each.for_each(|(y, &x)| *y = scale * x);
            }
        });
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (n, factor) in [(1, 1.0), (55, -0.25), (1024, 0.3)] {
        for accum in [false, true] {
            let out = if accum { Fill::normal() } else { Fill::Poison };
            cases.push(Case::new(
                format!("n={n} factor={factor} accum={accum}"),
                ScaleBy { n, factor, accum },
                vec![Fill::normal(), Fill::normal(), out],
            ));
        }
    }
    cases
}
