//! Stage two of a sum over a whole tensor: the partials of [`super::sum_all::SumAll`] to a scalar.

use super::{
    Bind, Caps, Case, Const, Cost, Fill, Io, Kernel, Real, flag, float, subgroup, wrong_binds,
};
use crate::naive_forms;
use std::sync::Arc;

/// y (+)= factor sum of partials: bindings partials [p], y [1].
#[derive(Debug, Clone)]
pub struct SumFinish {
    pub p: usize,
    /// Finite.
    pub factor: f32,
    /// Add to y instead of writing it.
    pub accum: bool,
}

impl SumFinish {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(partials), Bind::Out(y), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let mut sum = T::zero();
        for &partial in partials.iter() {
            sum += partial;
        }
        let v = T::of(self.factor.into()) * sum;
        y[0] = if self.accum { y[0] + v } else { v };
    }
}

impl Kernel for SumFinish {
    fn name(&self) -> &'static str {
        "sum_finish"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/sum_finish.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![float("FACTOR", self.factor), flag("ACCUM", self.accum), subgroup::off()]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.p as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.p, 1]
    }
    fn grid(&self) -> [u32; 3] {
        [1, 1, 1]
    }
    fn cost(&self) -> Cost {
        Cost { flops: self.p as u64, bytes: 4 * self.p as u64 }
    }
    fn variants(&self, caps: &Caps) -> Vec<Arc<dyn Kernel>> {
        subgroup::offer(self, caps)
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (p, factor, accum) in
        [(1, 1.0, false), (47, 0.3, true), (256, -1.0, false), (1000, 2.0, true)]
    {
        let kernel = SumFinish { p, factor, accum };
        let out = if accum { Fill::normal() } else { Fill::Poison };
        cases.push(Case::new(format!("p={p} accum={accum}"), kernel, vec![Fill::normal(), out]));
    }
    let kernel = SumFinish { p: 777, factor: 3.0, accum: true };
    cases.push(Case::new("integers", kernel, vec![Fill::Ints(-8, 8), Fill::Ints(-8, 8)]).exact());
    cases
}
