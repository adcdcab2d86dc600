//! A row of a ring: the losses and other scalars of a step, read back every few steps.

use super::{Bind, Case, Const, Cost, Fill, Io, Kernel, Real, StepScalars, grid_1d, wrong_binds};
use crate::naive_forms;

/// ring[`step.ring_row` mod rows] = src: bindings src [n], ring [rows, n] (other rows unchanged).
#[derive(Debug, Clone)]
pub struct RingWrite {
    pub n: usize,
    pub rows: usize,
}

impl RingWrite {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(src), Bind::Out(ring), ..] = &mut io.binds else { wrong_binds(self.name()) };
        let row = io.step.ring_row as usize % self.rows;
        ring[row * self.n..(row + 1) * self.n].copy_from_slice(src);
    }
}

impl Kernel for RingWrite {
    fn name(&self) -> &'static str {
        "ring_write"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/ring_write.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.n as u32, self.rows as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.n, self.n * self.rows]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.n, 256)
    }
    fn cost(&self) -> Cost {
        Cost { flops: 0, bytes: 8 * self.n as u64 }
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (n, rows, ring_row) in [(1, 1, 0), (7, 5, 4), (300, 3, 1), (4, 8, 21)] {
        let step = StepScalars { ring_row, ..StepScalars::default() };
        let fills = vec![Fill::normal(), Fill::normal()];
        let name = format!("{rows} x {n}, row {ring_row}");
        cases.push(Case::new(name, RingWrite { n, rows }, fills).exact().with_step(step));
    }
    cases
}
