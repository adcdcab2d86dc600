//! Sums of columns: the gradient of a bias, before [`super::SumPartials`].

use super::{
    Bind, Case, Const, Cost, Fill, Io, Kernel, Real, bindings, flag, grid_1d, int, wrong_binds,
};
use crate::naive_forms;
use rayon::prelude::*;

/// `partials[s][c] = sum of x[r][c]` over the `ceil(rows / splits)` rows of chunk s (the last chunks
/// may be empty: zeros). Bindings: x `[rows, cols]`, partials `[splits, cols]`.
#[derive(Debug, Clone)]
pub struct ColSum {
    pub rows: usize,
    pub cols: usize,
    pub splits: usize,
}

impl ColSum {
    /// With as many splits as keep a GPU busy, but no chunk below 256 rows.
    pub fn new(rows: usize, cols: usize) -> Self {
        ColSum { rows, cols, splits: rows.div_ceil(256).clamp(1, 128) }
    }

    fn chunk(&self) -> usize {
        self.rows.div_ceil(self.splits)
    }

    fn vector(&self) -> usize {
        if self.cols.is_multiple_of(4) { 4 } else { 1 }
    }

    /// Elements of a row that a workgroup takes side by side.
    fn columns(&self) -> usize {
        (self.cols / self.vector()).next_power_of_two().min(64)
    }

    fn groups(&self) -> usize {
        self.splits * (self.cols / self.vector()).div_ceil(self.columns())
    }

    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(x), Bind::Out(partials), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        partials.fill(T::zero());
        for r in 0..self.rows {
            let split = r / self.rows.div_ceil(self.splits);
            for c in 0..self.cols {
                partials[split * self.cols + c] += x[r * self.cols + c];
            }
        }
    }
}

impl Kernel for ColSum {
    fn name(&self) -> &'static str {
        "col_sum"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/col_sum.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![
            flag("VEC4", self.vector() == 4),
            int("WIDTH", self.cols / self.vector()),
            int("COLUMNS", self.columns()),
        ]
    }
    fn dims(&self) -> Vec<u32> {
        [self.rows, self.chunk(), self.groups()].map(|v| v as u32).to_vec()
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.rows * self.cols, self.splits * self.cols]
    }
    fn half_ok(&self) -> u32 {
        bindings(&[0])
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.groups(), 1)
    }
    fn cost(&self) -> Cost {
        let words = (self.rows + self.splits) * self.cols;
        Cost { flops: (self.rows * self.cols) as u64, bytes: 4 * words as u64 }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        /// Columns that are summed together.
        const COLUMNS: usize = 1024;
        let [Bind::In(x), Bind::Out(partials), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let (x, chunk): (&[f32], usize) = (x, self.chunk());
        partials.par_chunks_mut(self.cols).enumerate().for_each(|(split, partial)| {
            let end = ((split + 1) * chunk).min(self.rows);
            let rows = (split * chunk).min(end)..end;
            partial.par_chunks_mut(COLUMNS).enumerate().for_each(|(i, sums)| {
                sums.fill(0.0);
                for row in rows.clone() {
                    let x = &x[row * self.cols + i * COLUMNS..][..sums.len()];
                    sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
                }
            });
        });
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (rows, cols) in [(1, 1), (5, 47), (300, 64), (130, 1), (64, 260), (65, 61), (7, 1028)] {
        for splits in [1, 4] {
            let kernel = ColSum { rows, cols, splits };
            let name = format!("rows={rows} cols={cols} splits={splits}");
            cases.push(if splits == 1 {
                Case::new(name, kernel, vec![Fill::normal(), Fill::Poison])
            } else {
                Case::new(name, kernel, vec![Fill::Ints(-9, 9), Fill::Poison]).exact()
            });
        }
    }
    cases
}
