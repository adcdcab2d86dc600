//! Part of the columns of a matrix: a slice of channels, and its transpose, which pads.

use super::cpu::blocks::rows_per_block;
use super::{
    Bind, Case, Const, Cost, Fill, Io, Kernel, Real, bindings, flag, grid_1d, int, wrong_binds,
};
use crate::naive_forms;
use rayon::prelude::*;

/// `y[r, j] (+)= x[r, at + j]`: bindings x [rows, wide], y [rows, narrow]. With `pad` the transpose:
/// `y[r, at + j] (+)= x[r, j]` and zeros in the other columns, x [rows, narrow], y [rows, wide]. Each
/// is the gradient of the other.
#[derive(Debug, Clone)]
pub struct Columns {
    pub rows: usize,
    pub wide: usize,
    /// at + narrow is at most wide.
    pub narrow: usize,
    pub at: usize,
    pub pad: bool,
    /// Add to y instead of writing it.
    pub accum: bool,
}

impl Columns {
    fn width(&self) -> usize {
        let whole = [self.wide, self.narrow, self.at].iter().all(|n| n.is_multiple_of(4));
        if whole { 4 } else { 1 }
    }
    /// Columns of y.
    fn out(&self) -> usize {
        if self.pad { self.wide } else { self.narrow }
    }

    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(x), Bind::Out(y), ..] = &mut io.binds else { wrong_binds(self.name()) };
        let (wide, narrow) = (self.wide, self.narrow);
        for r in 0..self.rows {
            for j in 0..self.out() {
                let inside = self.at..self.at + narrow;
                let v = match self.pad {
                    false => x[r * wide + self.at + j],
                    true if inside.contains(&j) => x[r * narrow + j - self.at],
                    true => T::zero(),
                };
                let y = &mut y[r * self.out() + j];
                *y = if self.accum { *y + v } else { v };
            }
        }
    }
}

impl Kernel for Columns {
    fn name(&self) -> &'static str {
        "columns"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/columns.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        let width = self.width();
        vec![
            flag("VEC4", width == 4),
            int("WIDE", self.wide / width),
            int("NARROW", self.narrow / width),
            int("AT", self.at / width),
            flag("PAD", self.pad),
            flag("ACCUM", self.accum),
        ]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.rows as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let (wide, narrow) = (self.rows * self.wide, self.rows * self.narrow);
        if self.pad { vec![narrow, wide] } else { vec![wide, narrow] }
    }
    fn half_ok(&self) -> u32 {
        bindings(&[0, 1])
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.rows * self.out() / self.width(), 256)
    }
    fn cost(&self) -> Cost {
        let narrow = (self.rows * self.narrow) as u64;
        // Zeros are written, but need not be added.
        let written = if self.accum { 2 * narrow } else { (self.rows * self.out()) as u64 };
        Cost { flops: u64::from(self.accum) * narrow, bytes: 4 * (narrow + written) }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [Bind::In(x), Bind::Out(y), ..] = &mut io.binds else { wrong_binds(self.name()) };
        let Columns { wide, narrow, at, pad, accum, .. } = *self;
        let (taken, given) = if pad { (narrow, wide) } else { (wide, narrow) };
        let block = rows_per_block(wide);
        let blocks = y.par_chunks_mut(block * given).zip(x.par_chunks(block * taken));
        blocks.for_each(|(y, x)| {
            for (y, x) in y.chunks_exact_mut(given).zip(x.chunks_exact(taken)) {
                if pad && !accum {
                    y[..at].fill(0.0);
                    y[at + narrow..].fill(0.0);
                }
                let (y, x) =
                    if pad { (&mut y[at..at + narrow], x) } else { (y, &x[at..at + narrow]) };
                match accum {
                    true => y.iter_mut().zip(x).for_each(|(y, &x)| *y += x),
                    false => y.copy_from_slice(x),
                }
            }
        });
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    let shapes = [
        (1, 1, 1, 0),
        (41, 47, 3, 0),
        (55, 8, 4, 4),
        (61, 61, 55, 6),
        (300, 32, 8, 16),
        (7, 12, 4, 3),
        (5, 300, 41, 259),
    ];
    for (rows, wide, narrow, at) in shapes {
        for (pad, accum) in [(false, false), (false, true), (true, false), (true, true)] {
            let out = if accum { Fill::Ints(-9, 9) } else { Fill::Poison };
            let kernel = Columns { rows, wide, narrow, at, pad, accum };
            let name = format!("{rows} x {at}+{narrow} of {wide} pad={pad} accum={accum}");
            cases.push(Case::new(name, kernel, vec![Fill::Ints(-9, 9), out]).exact());
        }
    }
    cases
}
