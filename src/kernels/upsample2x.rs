//! Nearest-neighbour upsampling by two, and its adjoint.

use super::{
    Bind, Case, Const, Cost, Fill, Io, Kernel, Real, bindings, flag, grid_1d, int, wrong_binds,
};
use crate::naive_forms;
use rayon::prelude::*;

fn lanes(c: usize) -> usize {
    if c.is_multiple_of(4) { 4 } else { 1 }
}

/// Bindings: x [n, h, w, c], y [n, 2h, 2w, c].
#[derive(Debug, Clone)]
pub struct Upsample2x {
    pub n: usize,
    pub h: usize,
    pub w: usize,
    pub c: usize,
}

impl Upsample2x {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(x), Bind::Out(y), ..] = &mut io.binds else { wrong_binds(self.name()) };
        let Upsample2x { n, h, w, c } = *self;
        for sample in 0..n {
            for row in 0..2 * h {
                for column in 0..2 * w {
                    for channel in 0..c {
                        y[((sample * 2 * h + row) * 2 * w + column) * c + channel] =
                            x[((sample * h + row / 2) * w + column / 2) * c + channel];
                    }
                }
            }
        }
    }
}

impl Kernel for Upsample2x {
    fn name(&self) -> &'static str {
        "upsample2x"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/upsample2x.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![flag("VEC4", lanes(self.c) == 4), int("CHANNELS", self.c)]
    }
    fn dims(&self) -> Vec<u32> {
        vec![(self.lens()[1] / lanes(self.c)) as u32, self.w as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let x = self.n * self.h * self.w * self.c;
        vec![x, 4 * x]
    }
    fn half_ok(&self) -> u32 {
        bindings(&[0, 1])
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.lens()[1] / lanes(self.c), 256)
    }
    fn cost(&self) -> Cost {
        Cost { flops: 0, bytes: 20 * self.lens()[0] as u64 }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [Bind::In(x), Bind::Out(y), ..] = &mut io.binds else { wrong_binds(self.name()) };
        let (row, c) = (self.w * self.c, self.c);
        // Two rows of y from one of x.
        y.par_chunks_mut(4 * row).zip(x.par_chunks(row)).for_each(|(y, x)| {
            let (upper, lower) = y.split_at_mut(2 * row);
            for (pair, pixel) in upper.chunks_exact_mut(2 * c).zip(x.chunks_exact(c)) {
                pair[..c].copy_from_slice(pixel);
                pair[c..].copy_from_slice(pixel);
            }
            lower.copy_from_slice(upper);
        });
    }
    naive_forms!();
}

/// dx = the sum of the 2 x 2 pixels of dy that repeat it.
/// Bindings: dy [n, 2h, 2w, c], dx [n, h, w, c].
#[derive(Debug, Clone)]
pub struct Upsample2xBwd {
    pub n: usize,
    pub h: usize,
    pub w: usize,
    pub c: usize,
    /// Add to dx instead of writing it.
    pub accum: bool,
}

impl Upsample2xBwd {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(dy), Bind::Out(dx), ..] = &mut io.binds else { wrong_binds(self.name()) };
        let Upsample2xBwd { n, h, w, c, accum } = *self;
        for sample in 0..n {
            for row in 0..h {
                for column in 0..w {
                    for channel in 0..c {
                        let mut sum = T::zero();
                        for (dr, dc) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                            let above = (sample * 2 * h + 2 * row + dr) * 2 * w;
                            sum += dy[(above + 2 * column + dc) * c + channel];
                        }
                        let i = ((sample * h + row) * w + column) * c + channel;
                        dx[i] = if accum { dx[i] + sum } else { sum };
                    }
                }
            }
        }
    }
}

impl Kernel for Upsample2xBwd {
    fn name(&self) -> &'static str {
        "upsample2x_bwd"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/upsample2x_bwd.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![flag("VEC4", lanes(self.c) == 4), int("CHANNELS", self.c), flag("ACCUM", self.accum)]
    }
    fn dims(&self) -> Vec<u32> {
        vec![(self.lens()[1] / lanes(self.c)) as u32, self.w as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let x = self.n * self.h * self.w * self.c;
        vec![4 * x, x]
    }
    fn half_ok(&self) -> u32 {
        bindings(&[0, 1])
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.lens()[1] / lanes(self.c), 256)
    }
    fn cost(&self) -> Cost {
        let x = self.lens()[1] as u64;
        Cost { flops: 4 * x, bytes: (20 + 4 * u64::from(self.accum)) * x }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [Bind::In(dy), Bind::Out(dx), ..] = &mut io.binds else { wrong_binds(self.name()) };
        let (row, c, accum) = (self.w * self.c, self.c, self.accum);
        dx.par_chunks_mut(row).zip(dy.par_chunks(4 * row)).for_each(|(dx, dy)| {
            let (upper, lower) = dy.split_at(2 * row);
            let pairs = upper.chunks_exact(2 * c).zip(lower.chunks_exact(2 * c));
            for (dx, (upper, lower)) in dx.chunks_exact_mut(c).zip(pairs) {
                let (a, b) = upper.split_at(c);
                let (d, e) = lower.split_at(c);
                for i in 0..c {
                    let sum = (a[i] + b[i]) + (d[i] + e[i]);
                    dx[i] = if accum { dx[i] + sum } else { sum };
                }
            }
        });
    }
    naive_forms!();
}

const SIZES: [(usize, usize, usize, usize); 5] =
    [(1, 1, 1, 1), (2, 3, 5, 4), (1, 7, 4, 41), (3, 4, 4, 64), (2, 5, 8, 3)];

pub fn cases() -> Vec<Case> {
    let case = |(n, h, w, c)| {
        let fills = vec![Fill::Ints(-99, 99), Fill::Poison];
        Case::new(format!("{n}x{h}x{w}x{c}"), Upsample2x { n, h, w, c }, fills).exact()
    };
    SIZES.into_iter().map(case).collect()
}

pub fn bwd_cases() -> Vec<Case> {
    let mut cases = vec![];
    for (n, h, w, c) in SIZES {
        for accum in [false, true] {
            let kernel = Upsample2xBwd { n, h, w, c, accum };
            let name = format!("{n}x{h}x{w}x{c} accum={accum}");
            let out = |fill: Fill| if accum { fill } else { Fill::Poison };
            let ints = Fill::Ints(-99, 99);
            let fills = vec![ints.clone(), out(ints)];
            cases.push(Case::new(format!("{name} integers"), kernel.clone(), fills).exact());
            cases.push(Case::new(name, kernel, vec![Fill::normal(), out(Fill::normal())]));
        }
    }
    cases
}
