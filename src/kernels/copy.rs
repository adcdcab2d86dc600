//! Copying: `y (+)= x`.

use super::{
    Bind, Case, Const, Cost, Expr, Fill, Io, Kernel, Real, bindings, flag, grid_1d, wrong_binds,
};
use crate::naive_forms;
use rayon::prelude::*;

/// Bindings: x [n], y [n].
#[derive(Debug, Clone)]
pub struct Copy {
    pub n: usize,
    /// Add to y instead of writing it.
    pub accum: bool,
}

impl Copy {
    fn width(&self) -> usize {
        if self.n.is_multiple_of(4) { 4 } else { 1 }
    }

    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(x), Bind::Out(y), ..] = &mut io.binds else { wrong_binds(self.name()) };
        for (y, &x) in y.iter_mut().zip(x.iter()) {
            *y = if self.accum { *y + x } else { x };
        }
    }
}

impl Kernel for Copy {
    fn name(&self) -> &'static str {
        "copy"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/copy.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![flag("VEC4", self.width() == 4), flag("ACCUM", self.accum)]
    }
    fn dims(&self) -> Vec<u32> {
        vec![(self.n / self.width()) as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.n; 2]
    }
    fn half_ok(&self) -> u32 {
        bindings(&[0, 1])
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.n / self.width(), 256)
    }
    fn cost(&self) -> Cost {
        let n = self.n as u64;
        Cost { flops: u64::from(self.accum) * n, bytes: (2 + u64::from(self.accum)) * 4 * n }
    }
    fn elementwise(&self) -> Option<Expr> {
        let mut expr = Expr::default();
        let x = expr.load(0);
        Some(expr.store(x, self.accum))
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        const CHUNK: usize = 16_384;
        let [Bind::In(x), Bind::Out(y), ..] = &mut io.binds else { wrong_binds(self.name()) };
        y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| {
            if self.accum {
                y.iter_mut().zip(x).for_each(|(y, &x)| *y += x);
            } else {
                y.copy_from_slice(x);
            }
        });
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for n in [1, 47, 256, 65_540] {
        for accum in [false, true] {
            let out = if accum { Fill::normal() } else { Fill::Poison };
            cases.push(Case::new(
                format!("n={n} accum={accum}"),
                Copy { n, accum },
                vec![Fill::normal(), out],
            ));
        }
    }
    cases
}
