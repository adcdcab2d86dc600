//! Filling with one word: `y = bits`. The planner poisons slots with a NaN this way.

use super::{Bind, Case, Const, Cost, Fill, Io, Kernel, Real, grid_1d, wrong_binds};
use crate::naive_forms;
use rayon::prelude::*;

/// Bindings: y [n], words of any type.
#[derive(Debug, Clone)]
pub struct FillWord {
    pub n: usize,
    pub bits: u32,
}

impl FillWord {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::OutU(y), ..] = &mut io.binds else { wrong_binds(self.name()) };
        y.fill(self.bits);
    }
}

impl Kernel for FillWord {
    fn name(&self) -> &'static str {
        "fill"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/fill.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.n as u32, self.bits]
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
        let [Bind::OutU(y), ..] = &mut io.binds else { wrong_binds(self.name()) };
        y.par_chunks_mut(16_384).for_each(|y| y.fill(self.bits));
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    [(1, 0), (257, f32::to_bits(-1.5)), (65_541, 0x7fc0_dead)]
        .into_iter()
        .map(|(n, bits)| {
            let unlike = Fill::U32(vec![!bits; n]);
            Case::new(format!("n={n} bits={bits:#x}"), FillWord { n, bits }, vec![unlike]).exact()
        })
        .collect()
}
