//! Filling with a constant: `y = value`.

use super::{Bind, Case, Const, Cost, Fill, Io, Kernel, Real, float, grid_1d, wrong_binds};
use crate::naive_forms;
use rayon::prelude::*;

/// Bindings: y [n].
#[derive(Debug, Clone)]
pub struct FillValue {
    pub n: usize,
    /// Finite.
    pub value: f32,
}

impl FillValue {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::Out(y), ..] = &mut io.binds else { wrong_binds(self.name()) };
        y.fill(T::of(self.value.into()));
    }
}

impl Kernel for FillValue {
    fn name(&self) -> &'static str {
        "fill"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/fill.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![float("VALUE", self.value)]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.n as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.n]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.n, 256)
    }
    fn cost(&self) -> Cost {
        Cost { flops: 0, bytes: 4 * self.n as u64 }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [Bind::Out(y), ..] = &mut io.binds else { wrong_binds(self.name()) };
        y.par_chunks_mut(16_384).for_each(|y| y.fill(self.value));
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    [(1, 0.0), (257, -1.5), (65_541, 1.0e-7)]
        .into_iter()
        .map(|(n, value)| {
            let kernel = FillValue { n, value };
            Case::new(format!("n={n} value={value}"), kernel, vec![Fill::Poison]).exact()
        })
        .collect()
}
