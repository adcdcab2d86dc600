//! Rows of unit length: what a search by cosine compares, and a codebook of directions.

use super::cpu::blocks::rows_per_block;
use super::cpu::math::vectorised;
use super::cpu::nearest::FAR;
use super::cpu::reduce::{sum, sum2};
use super::{
    Bind, Case, Const, Cost, Fill, Io, Kernel, Real, bindings, flag, float, grid_1d, int,
    wrong_binds,
};
use crate::naive_forms;
use rayon::prelude::*;

/// Lengths below it count as it: rows of zeros stay zeros, and gradients stay finite.
pub const FLOOR: f32 = 1.0e-6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormaliseMode {
    /// y = x / max(|x|, [`FLOOR`]): bindings x, y.
    Forward,
    /// dx (+)= (dy - y (y . dy)) / |x|, or dy / [`FLOOR`] where |x| is below it: bindings x, dy, dx.
    Backward {
        /// Add to dx instead of writing it.
        accum: bool,
    },
    /// Forward on x itself, unless `ctl[1]` > 0 fails: bindings ctl [4], x.
    InPlace,
}

/// All bindings but ctl are [rows, d]. A row with |x|^2 of 3e38 or more, past what f32 can square,
/// counts as infinitely long: it becomes zero and has no gradient.
#[derive(Debug, Clone)]
pub struct NormaliseRows {
    pub rows: usize,
    pub d: usize,
    pub mode: NormaliseMode,
}

/// What a row is multiplied by, and y . dy.
#[derive(Clone, Copy)]
struct Factors<T> {
    scale: T,
    along: T,
}

impl<T: Real> Factors<T> {
    /// From |x|^2 and x . dy.
    #[inline(always)]
    fn of(squared: T, with_dy: T) -> Self {
        let length = squared.sqrt();
        if squared >= T::of(FAR.into()) {
            Factors { scale: T::zero(), along: T::zero() }
        } else if length < T::of(FLOOR.into()) {
            Factors { scale: T::one() / T::of(FLOOR.into()), along: T::zero() }
        } else {
            let scale = T::one() / length;
            Factors { scale, along: scale * with_dy }
        }
    }
}

/// Elements of a row that one invocation loads at a time, and invocations that share a row.
pub(super) fn row_lanes(d: usize) -> (usize, usize) {
    let width = if d.is_multiple_of(4) { 4 } else { 1 };
    (width, (d / width).next_power_of_two().min(64))
}

impl NormaliseRows {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let dot = |a: &[T], b: &[T]| a.iter().zip(b).fold(T::zero(), |sum, (&a, &b)| sum + a * b);
        let d = self.d;
        match (&mut io.binds, self.mode) {
            ([Bind::In(x), Bind::Out(y), ..], NormaliseMode::Forward) => {
                for (x, y) in x.chunks(d).zip(y.chunks_mut(d)) {
                    let scale = Factors::of(dot(x, x), T::zero()).scale;
                    y.iter_mut().zip(x).for_each(|(y, &x)| *y = x * scale);
                }
            }
            ([Bind::In(x), Bind::In(dy), Bind::Out(dx), ..], NormaliseMode::Backward { accum }) => {
                for ((x, dy), dx) in x.chunks(d).zip(dy.chunks(d)).zip(dx.chunks_mut(d)) {
                    let Factors { scale, along } = Factors::of(dot(x, x), dot(x, dy));
                    for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
                        let g = (dy - x * scale * along) * scale;
                        *dx = if accum { *dx + g } else { g };
                    }
                }
            }
            ([Bind::In(ctl), Bind::Out(x), ..], NormaliseMode::InPlace) => {
                let apply = ctl[1] > T::zero();
                for x in x.chunks_mut(d).filter(|_| apply) {
                    let scale = Factors::of(dot(x, x), T::zero()).scale;
                    x.iter_mut().for_each(|x| *x = *x * scale);
                }
            }
            _ => wrong_binds(self.name()),
        }
    }
}

impl Kernel for NormaliseRows {
    fn name(&self) -> &'static str {
        "normalise_rows"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/normalise_rows.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        let (width, lanes) = row_lanes(self.d);
        let mut consts = vec![
            flag("VEC4", width == 4),
            int("DV", self.d / width),
            int("ROW_LANES", lanes),
            float("FLOOR", FLOOR),
            float("FAR", FAR),
        ];
        match self.mode {
            NormaliseMode::Forward => consts.push(int("MODE", 0)),
            NormaliseMode::Backward { accum } => {
                consts.extend([int("MODE", 1), flag("ACCUM", accum)]);
            }
            NormaliseMode::InPlace => consts.push(int("MODE", 2)),
        }
        consts
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.rows as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let n = self.rows * self.d;
        match self.mode {
            NormaliseMode::Forward => vec![n; 2],
            NormaliseMode::Backward { .. } => vec![n; 3],
            NormaliseMode::InPlace => vec![4, n],
        }
    }
    fn half_ok(&self) -> u32 {
        match self.mode {
            NormaliseMode::Forward => bindings(&[0, 1]),
            NormaliseMode::Backward { .. } => bindings(&[0, 1, 2]),
            NormaliseMode::InPlace => 0,
        }
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.rows, 256 / row_lanes(self.d).1)
    }
    fn cost(&self) -> Cost {
        let n = (self.rows * self.d) as u64;
        let (flops, streams) = match self.mode {
            NormaliseMode::Forward | NormaliseMode::InPlace => (3, 2),
            NormaliseMode::Backward { accum } => (7 + u64::from(accum), 3 + u64::from(accum)),
        };
        Cost { flops: flops * n, bytes: streams * 4 * n }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let (d, block) = (self.d, rows_per_block(self.d) * self.d);
        match (&mut io.binds, self.mode) {
            ([Bind::In(x), Bind::Out(y), ..], NormaliseMode::Forward) => {
                y.par_chunks_mut(block).zip(x.par_chunks(block)).for_each(|(y, x)| {
                    vectorised(
                        #[inline(always)]
                        || forward(d, x, y),
                    );
                });
            }
            ([Bind::In(x), Bind::In(dy), Bind::Out(dx), ..], NormaliseMode::Backward { accum }) => {
                let inputs = x.par_chunks(block).zip(dy.par_chunks(block));
                dx.par_chunks_mut(block).zip(inputs).for_each(|(dx, (x, dy))| {
                    vectorised(
                        #[inline(always)]
                        || backward(d, accum, x, dy, dx),
                    );
                });
            }
            ([Bind::In(ctl), Bind::Out(x), ..], NormaliseMode::InPlace) => {
                let apply = ctl[1] > 0.0;
                if apply {
                    x.par_chunks_mut(block).for_each(|x| {
                        vectorised(
                            #[inline(always)]
                            || in_place(d, x),
                        );
                    });
                }
            }
            _ => wrong_binds(self.name()),
        }
    }
    naive_forms!();
}

#[inline(always)]
fn forward(d: usize, x: &[f32], y: &mut [f32]) {
    for (x, y) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)) {
        let scale = Factors::of(sum(x, |x| x * x), 0.0).scale;
        y.iter_mut().zip(x).for_each(|(y, &x)| *y = x * scale);
    }
}

#[inline(always)]
fn backward(d: usize, accum: bool, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    let rows = dx.chunks_exact_mut(d).zip(x.chunks_exact(d)).zip(dy.chunks_exact(d));
    for ((dx, x), dy) in rows {
        let with_dy = sum2(x, dy, |x, dy| x * dy);
        let Factors { scale, along } = Factors::of(sum(x, |x| x * x), with_dy);
        let each = dx.iter_mut().zip(x).zip(dy);
        let g = |x: f32, dy: f32| scale * (dy - scale * along * x);
        match accum {
            true => each.for_each(|((dx, &x), &dy)| *dx += g(x, dy)),
            false => each.for_each(|((dx, &x), &dy)| *dx = g(x, dy)),
        }
    }
}

#[inline(always)]
fn in_place(d: usize, x: &mut [f32]) {
    for x in x.chunks_exact_mut(d) {
        let scale = Factors::of(sum(x, |x| x * x), 0.0).scale;
        x.iter_mut().for_each(|x| *x *= scale);
    }
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    let ctl = |apply: f32| Fill::F32(vec![1.0, apply, 1.0, 0.0]);
    let mut all = |name: &str, (rows, d): (usize, usize), x: Fill| {
        let label = |what: &str| format!("{rows} x {d}{name} {what}");
        let kernel = |mode| NormaliseRows { rows, d, mode };
        let forward = kernel(NormaliseMode::Forward);
        cases.push(Case::new(label("forward"), forward, vec![x.clone(), Fill::Poison]));
        for accum in [false, true] {
            let out = if accum { Fill::normal() } else { Fill::Poison };
            let backward = kernel(NormaliseMode::Backward { accum });
            let fills = vec![x.clone(), Fill::normal(), out];
            cases.push(Case::new(label(&format!("backward accum={accum}")), backward, fills));
        }
        for apply in [1.0, 0.0] {
            let fills = vec![ctl(apply), x.clone()];
            let in_place = kernel(NormaliseMode::InPlace);
            cases.push(Case::new(label(&format!("in place apply={apply}")), in_place, fills));
        }
    };
    for shape in [(1, 1), (47, 3), (61, 8), (55, 41), (300, 4), (9, 256), (5, 300)] {
        all("", shape, Fill::normal());
    }
    // Rows of zeros, shorter than the floor, just longer, ordinary, past what f32 can square, NaN.
    let lengths = [0.0, 1.0e-8, 3.0e-6, 1.0, 1.0e30, f32::NAN];
    let component = |i: usize| {
        lengths[i / 5 % 6] * (i % 7) as f32 * if i.is_multiple_of(2) { 1.0 } else { -0.5 }
    };
    all(" strays", (13, 5), Fill::F32((0..65).map(component).collect()));
    cases
}
