//! Rows of a table by index: code vectors, embeddings.

use super::{
    Bind, Case, Const, Cost, Fill, Io, Kernel, Real, bindings, flag, grid_1d, int, wrong_binds,
};
use crate::naive_forms;
use rayon::prelude::*;

/// y[i] = table[idx[i]]: bindings idx u32 [n], table [rows, d], y [n, d]. An index past the table
/// gives a row of zeros. The gradient of the table is [`super::code_sums::CodeSums`].
#[derive(Debug, Clone)]
pub struct Gather {
    pub n: usize,
    pub rows: usize,
    pub d: usize,
}

impl Gather {
    fn width(&self) -> usize {
        if self.d.is_multiple_of(4) { 4 } else { 1 }
    }

    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::InU(idx), Bind::In(table), Bind::Out(y), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        for i in 0..self.n {
            for j in 0..self.d {
                let row = idx[i] as usize;
                y[i * self.d + j] =
                    if row < self.rows { table[row * self.d + j] } else { T::zero() };
            }
        }
    }
}

impl Kernel for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/gather.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![flag("VEC4", self.width() == 4), int("D", self.d / self.width())]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.n as u32, self.rows as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.n, self.rows * self.d, self.n * self.d]
    }
    fn half_ok(&self) -> u32 {
        bindings(&[2])
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.n * self.d / self.width(), 256)
    }
    fn cost(&self) -> Cost {
        // Every row that is read, once: the table may be far larger or far smaller.
        let read = self.n.min(self.rows) * self.d;
        Cost { flops: 0, bytes: 4 * (self.n + read + self.n * self.d) as u64 }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        const ROWS: usize = 256;
        let [Bind::InU(idx), Bind::In(table), Bind::Out(y), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let (d, table) = (self.d, *table);
        y.par_chunks_mut(ROWS * d).zip(idx.par_chunks(ROWS)).for_each(|(y, idx)| {
            for (y, &row) in y.chunks_exact_mut(d).zip(idx) {
                match table.get(row as usize * d..(row as usize + 1) * d) {
                    Some(row) => y.copy_from_slice(row),
                    None => y.fill(0.0),
                }
            }
        });
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (n, rows, d) in [(1, 1, 1), (41, 47, 3), (300, 17, 8), (257, 512, 41), (1000, 5, 64)] {
        let fills = vec![Fill::Index(rows as u32), Fill::normal(), Fill::Poison];
        cases.push(Case::new(format!("{n} of {rows} x {d}"), Gather { n, rows, d }, fills).exact());
    }
    let past = vec![0, 3, 2, u32::MAX, 1, 4, 1 << 30];
    let fills = vec![Fill::U32(past), Fill::normal(), Fill::Poison];
    cases.push(Case::new("past the table", Gather { n: 7, rows: 3, d: 5 }, fills).exact());
    cases
}
