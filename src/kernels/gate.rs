//! A gate for each sample and channel over rows (the gates of diffusion transformers, 2212.09748), and
//! its gradient.

use super::cpu::blocks::rows_per_block;
use super::cpu::math::vectorised;
use super::{
    Bind, Case, Const, Cost, Fill, Io, Kernel, Real, bindings, flag, grid_1d, int, wrong_binds,
};
use crate::naive_forms;
use rayon::prelude::*;

/// `y[r, j] (+)= gate[r / rows_per_sample, j] h[r, j]`, and `x[r, j]` added with `residual`.
/// Bindings: x [rows, c] with `residual`, gate [rows / rows_per_sample, c], h and y [rows, c].
#[derive(Debug, Clone)]
pub struct Gate {
    pub rows: usize,
    /// Divides `rows`.
    pub rows_per_sample: usize,
    pub c: usize,
    pub residual: bool,
    /// Add to y instead of writing it.
    pub accum: bool,
}

/// `dgate[s, j] (+)=` the sum of `dy[r, j] h[r, j]` over the rows of sample s.
/// Bindings: h and dy [rows, c], dgate [rows / rows_per_sample, c].
#[derive(Debug, Clone)]
pub struct GateGrad {
    pub rows: usize,
    /// Divides `rows`.
    pub rows_per_sample: usize,
    pub c: usize,
    /// Add to dgate instead of writing it.
    pub accum: bool,
}

fn lanes(c: usize) -> usize {
    if c.is_multiple_of(4) { 4 } else { 1 }
}

/// x or nothing; gate; h; y.
type Split<'a, 'b, T> = (&'b [T], &'b [T], &'b [T], &'a mut [T]);

impl Gate {
    fn split<'a, 'b, T>(&self, io: &'a mut Io<'b, T>) -> Split<'a, 'b, T> {
        match &mut io.binds {
            [Bind::In(gate), Bind::In(h), Bind::Out(y), ..] if !self.residual => (&[], gate, h, y),
            [Bind::In(x), Bind::In(gate), Bind::In(h), Bind::Out(y), ..] => (x, gate, h, y),
            _ => wrong_binds(self.name()),
        }
    }

    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let c = self.c;
        let (x, gate, h, y) = self.split(io);
        for row in 0..self.rows {
            for j in 0..c {
                let mut v = gate[row / self.rows_per_sample * c + j] * h[row * c + j];
                if self.residual {
                    v = x[row * c + j] + v;
                }
                y[row * c + j] = if self.accum { y[row * c + j] + v } else { v };
            }
        }
    }
}

impl Kernel for Gate {
    fn name(&self) -> &'static str {
        "gate"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/gate.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![
            flag("VEC4", lanes(self.c) == 4),
            int("CHANNELS", self.c),
            flag("RESIDUAL", self.residual),
            flag("ACCUM", self.accum),
        ]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.rows as u32, self.rows_per_sample as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let len = self.rows * self.c;
        let x = if self.residual { vec![len] } else { vec![] };
        [x, vec![self.rows / self.rows_per_sample * self.c, len, len]].concat()
    }
    fn half_ok(&self) -> u32 {
        if self.residual { bindings(&[0, 1, 2, 3]) } else { bindings(&[0, 1, 2]) }
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.rows * self.c / lanes(self.c), 256)
    }
    fn cost(&self) -> Cost {
        let words: usize = self.lens().iter().sum();
        let len = (self.rows * self.c) as u64;
        let (residual, accum) = (u64::from(self.residual), u64::from(self.accum));
        Cost { flops: (1 + residual + accum) * len, bytes: 4 * (words as u64 + accum * len) }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let Gate { rows_per_sample, c, residual, accum, .. } = *self;
        let (x, gate, h, y) = self.split(io);
        let block = rows_per_block(c);
        y.par_chunks_mut(block * c).enumerate().for_each(|(b, y)| {
            vectorised(
                #[inline(always)]
                || {
                    for (row, y) in (b * block..).zip(y.chunks_exact_mut(c)) {
                        let gate = &gate[row / rows_per_sample * c..][..c];
                        let h = &h[row * c..][..c];
                        let each = y.iter_mut().zip(gate).zip(h);
                        match (residual, accum) {
                            (false, false) => each.for_each(|((y, &g), &h)| *y = g * h),
                            (false, true) => each.for_each(|((y, &g), &h)| *y += g * h),
                            (true, accum) => {
                                let x = &x[row * c..][..c];
                                for (((y, &g), &h), &x) in each.zip(x) {
                                    let v = x + g * h;
                                    *y = if accum { *y + v } else { v };
                                }
                            }
                        }
                    }
                },
            );
        });
    }
    naive_forms!();
}

/// Columns and invocations of a workgroup.
const COLUMNS: usize = 16;
const WG: usize = 256;

impl GateGrad {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(h), Bind::In(dy), Bind::Out(dgate), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let c = self.c;
        for sample in 0..self.rows / self.rows_per_sample {
            for j in 0..c {
                let mut sum = T::zero();
                for row in sample * self.rows_per_sample..(sample + 1) * self.rows_per_sample {
                    sum += dy[row * c + j] * h[row * c + j];
                }
                let dgate = &mut dgate[sample * c + j];
                *dgate = if self.accum { *dgate + sum } else { sum };
            }
        }
    }
}

impl Kernel for GateGrad {
    fn name(&self) -> &'static str {
        "gate_grad"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/gate_grad.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![
            flag("VEC4", lanes(self.c) == 4),
            int("CHANNELS", self.c),
            int("COLUMNS", COLUMNS),
            int("WG", WG),
            flag("ACCUM", self.accum),
        ]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.rows_per_sample as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let len = self.rows * self.c;
        vec![len, len, self.rows / self.rows_per_sample * self.c]
    }
    fn half_ok(&self) -> u32 {
        bindings(&[0, 1])
    }
    fn grid(&self) -> [u32; 3] {
        let columns = self.c / lanes(self.c);
        [columns.div_ceil(COLUMNS) as u32, (self.rows / self.rows_per_sample) as u32, 1]
    }
    fn cost(&self) -> Cost {
        let words: usize = self.lens().iter().sum();
        Cost { flops: 2 * (self.rows * self.c) as u64, bytes: 4 * words as u64 }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [Bind::In(h), Bind::In(dy), Bind::Out(dgate), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let (c, accum) = (self.c, self.accum);
        let sample = self.rows_per_sample * c;
        let inputs = h.par_chunks(sample).zip(dy.par_chunks(sample));
        dgate.par_chunks_mut(c).zip(inputs).for_each(|(dgate, (h, dy))| {
            vectorised(
                #[inline(always)]
                || {
                    if !accum {
                        dgate.fill(0.0);
                    }
                    for (h, dy) in h.chunks_exact(c).zip(dy.chunks_exact(c)) {
                        for ((d, &h), &dy) in dgate.iter_mut().zip(h).zip(dy) {
                            *d += dy * h;
                        }
                    }
                },
            );
        });
    }
    naive_forms!();
}

/// (samples, rows of a sample, c).
const SHAPES: [(usize, usize, usize); 6] =
    [(1, 1, 1), (2, 3, 41), (7, 5, 32), (2, 65, 128), (3, 1, 260), (1, 66, 55)];

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (samples, rows_per_sample, c) in SHAPES {
        for (residual, accum) in [(false, false), (false, true), (true, false), (true, true)] {
            let rows = samples * rows_per_sample;
            let kernel = Gate { rows, rows_per_sample, c, residual, accum };
            let name =
                format!("{samples} x {rows_per_sample} c={c} residual={residual} accum={accum}");
            let fills = |of: Fill| {
                let out = if accum { of.clone() } else { Fill::Poison };
                [vec![of; kernel.lens().len() - 1], vec![out]].concat()
            };
            let exact = fills(Fill::Ints(-9, 9));
            cases.push(Case::new(format!("{name} integers"), kernel.clone(), exact).exact());
            cases.push(Case::new(name, kernel.clone(), fills(Fill::normal())));
        }
    }
    cases
}

pub fn grad_cases() -> Vec<Case> {
    let mut cases = vec![];
    for (samples, rows_per_sample, c) in SHAPES {
        for accum in [false, true] {
            let kernel = GateGrad { rows: samples * rows_per_sample, rows_per_sample, c, accum };
            let name = format!("{samples} x {rows_per_sample} c={c} accum={accum}");
            let fills = |of: Fill| {
                let out = if accum { of.clone() } else { Fill::Poison };
                vec![of.clone(), of, out]
            };
            let exact = fills(Fill::Ints(-9, 9));
            cases.push(Case::new(format!("{name} integers"), kernel.clone(), exact).exact());
            cases.push(Case::new(name, kernel.clone(), fills(Fill::normal())));
        }
    }
    cases
}
