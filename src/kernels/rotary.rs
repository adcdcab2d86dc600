//! Rotary positions (Su et al. 2021, RoFormer): pairs of channels turned by the angle of their place.

use super::cpu::blocks::rows_per_block;
use super::cpu::math::vectorised;
use super::{
    Bind, Case, Const, Cost, Fill, Io, Kernel, Real, bindings, flag, grid_1d, int, wrong_binds,
};
use crate::naive_forms;
use rayon::prelude::*;

/// The pair (a, b) = x[r, h, 2i], x[r, h, 2i + 1] of row r and head h becomes (a cos - b sin, a sin + b
/// cos) with (cos, sin) = table[r mod length, 2i], table[r mod length, 2i + 1]; with `back` it turns the
/// other way, which is the inverse, the transpose and so the gradient.
/// Bindings: x [rows, heads, d], table [length, d], y [rows, heads, d].
#[derive(Debug, Clone)]
pub struct Rotary {
    /// A multiple of `length`.
    pub rows: usize,
    /// Places.
    pub length: usize,
    pub heads: usize,
    /// Channels of a head; a multiple of 4.
    pub d: usize,
    pub back: bool,
    /// Add to y instead of writing it.
    pub accum: bool,
}

impl Rotary {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(x), Bind::In(table), Bind::Out(y), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let (heads, d) = (self.heads, self.d);
        for row in 0..self.rows {
            for head in 0..heads {
                for i in (0..d).step_by(2) {
                    let at = (row * heads + head) * d + i;
                    let turn = row % self.length * d + i;
                    let (cos, mut sin) = (table[turn], table[turn + 1]);
                    if self.back {
                        sin = -sin;
                    }
                    let a = x[at] * cos - x[at + 1] * sin;
                    let b = x[at] * sin + x[at + 1] * cos;
                    y[at] = if self.accum { y[at] + a } else { a };
                    y[at + 1] = if self.accum { y[at + 1] + b } else { b };
                }
            }
        }
    }
}

impl Kernel for Rotary {
    fn name(&self) -> &'static str {
        "rotary"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/rotary.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![
            int("LENGTH", self.length),
            int("HEADS", self.heads),
            int("D", self.d),
            flag("BACK", self.back),
            flag("ACCUM", self.accum),
        ]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.rows as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let len = self.rows * self.heads * self.d;
        vec![len, self.length * self.d, len]
    }
    fn half_ok(&self) -> u32 {
        bindings(&[0, 2])
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.rows * self.heads * self.d / 4, 256)
    }
    fn cost(&self) -> Cost {
        let words: usize = self.lens().iter().sum();
        let (len, accum) = ((self.rows * self.heads * self.d) as u64, u64::from(self.accum));
        Cost { flops: (3 + accum) * len, bytes: 4 * (words as u64 + accum * len) }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [Bind::In(x), Bind::In(table), Bind::Out(y), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let Rotary { length, heads, d, back, accum, .. } = *self;
        let (width, sign) = (heads * d, if back { -1.0 } else { 1.0 });
        let block = rows_per_block(width);
        y.par_chunks_mut(block * width).enumerate().for_each(|(b, y)| {
            vectorised(
                #[inline(always)]
                || {
                    for (row, y) in (b * block..).zip(y.chunks_exact_mut(width)) {
                        let (x, turns) = (&x[row * width..][..width], &table[row % length * d..]);
                        for (x, y) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)) {
                            let pairs = x.chunks_exact(2).zip(y.chunks_exact_mut(2));
                            for ((x, y), turn) in pairs.zip(turns.chunks_exact(2)) {
                                let (cos, sin) = (turn[0], sign * turn[1]);
                                let a = x[0] * cos - x[1] * sin;
                                let b = x[0] * sin + x[1] * cos;
                                (y[0], y[1]) = if accum { (y[0] + a, y[1] + b) } else { (a, b) };
                            }
                        }
                    }
                },
            );
        });
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    // (samples, places, heads, channels of a head)
    for (samples, length, heads, d) in
        [(1, 1, 1, 4), (3, 5, 1, 8), (2, 7, 3, 4), (2, 41, 4, 12), (2, 64, 4, 32)]
    {
        for (back, accum) in [(false, false), (false, true), (true, false), (true, true)] {
            let kernel = Rotary { rows: samples * length, length, heads, d, back, accum };
            let name = format!("{samples} x {length} x {heads} x {d} back={back} accum={accum}");
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
