//! Mean over the positions of an image or a sequence, and its gradient.

use super::{
    Bind, Case, Const, Cost, Fill, Io, Kernel, Real, bindings, flag, grid_1d, int, wrong_binds,
};
use crate::naive_forms;
use rayon::prelude::*;

/// y[n, c] = mean over hw of x[n, hw, c]: bindings x [n, hw, c], y [n, c].
#[derive(Debug, Clone)]
pub struct MeanPool {
    /// At most 65,535.
    pub n: usize,
    pub hw: usize,
    pub c: usize,
}

/// dx[n, hw, c] (+)= dy[n, c] / hw: bindings dy [n, c], dx [n, hw, c].
#[derive(Debug, Clone)]
pub struct MeanPoolBwd {
    pub n: usize,
    pub hw: usize,
    pub c: usize,
    /// Add to dx instead of writing it.
    pub accum: bool,
}

/// Channels of one workgroup of the forward kernel; its other dimension slices the positions.
const CHANNELS: usize = 32;

impl MeanPool {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(x), Bind::Out(y), ..] = &mut io.binds else { wrong_binds(self.name()) };
        for n in 0..self.n {
            for c in 0..self.c {
                let mut sum = T::zero();
                for p in 0..self.hw {
                    sum += x[(n * self.hw + p) * self.c + c];
                }
                y[n * self.c + c] = sum / T::of(self.hw as f64);
            }
        }
    }
}

impl Kernel for MeanPool {
    fn name(&self) -> &'static str {
        "mean_pool"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/mean_pool.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![int("HW", self.hw), int("C_LEN", self.c), int("CHANNELS", CHANNELS)]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.n * self.hw * self.c, self.n * self.c]
    }
    fn half_ok(&self) -> u32 {
        bindings(&[0, 1])
    }
    fn grid(&self) -> [u32; 3] {
        [self.c.div_ceil(CHANNELS) as u32, self.n as u32, 1]
    }
    fn cost(&self) -> Cost {
        let all = (self.n * self.hw * self.c) as u64;
        Cost { flops: all, bytes: 4 * (all + (self.n * self.c) as u64) }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [Bind::In(x), Bind::Out(y), ..] = &mut io.binds else { wrong_binds(self.name()) };
        let images = x.par_chunks(self.hw * self.c);
        y.par_chunks_mut(self.c).zip(images).for_each(|(y, x)| {
            pulp::Arch::new().dispatch(|| {
                y.fill(0.0);
                for x in x.chunks(self.c) {
                    y.iter_mut().zip(x).for_each(|(y, &x)| *y += x);
                }
                y.iter_mut().for_each(|y| *y /= self.hw as f32);
            });
        });
    }
    naive_forms!();
}

impl MeanPoolBwd {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(dy), Bind::Out(dx), ..] = &mut io.binds else { wrong_binds(self.name()) };
        for n in 0..self.n {
            for p in 0..self.hw {
                for c in 0..self.c {
                    let g = dy[n * self.c + c] / T::of(self.hw as f64);
                    let dx = &mut dx[(n * self.hw + p) * self.c + c];
                    *dx = if self.accum { *dx + g } else { g };
                }
            }
        }
    }
}

impl Kernel for MeanPoolBwd {
    fn name(&self) -> &'static str {
        "mean_pool_bwd"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/mean_pool_bwd.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![int("HW", self.hw), int("C_LEN", self.c), flag("ACCUM", self.accum)]
    }
    fn dims(&self) -> Vec<u32> {
        vec![(self.n * self.hw * self.c) as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.n * self.c, self.n * self.hw * self.c]
    }
    fn half_ok(&self) -> u32 {
        bindings(&[0, 1])
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.n * self.hw * self.c, 256)
    }
    fn cost(&self) -> Cost {
        let (all, accum) = ((self.n * self.hw * self.c) as u64, u64::from(self.accum));
        Cost { flops: all * (1 + accum), bytes: 4 * (all * (1 + accum) + (self.n * self.c) as u64) }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [Bind::In(dy), Bind::Out(dx), ..] = &mut io.binds else { wrong_binds(self.name()) };
        let images = dx.par_chunks_mut(self.hw * self.c);
        images.zip(dy.par_chunks(self.c)).for_each(|(dx, dy)| {
            let scale = 1.0 / self.hw as f32;
            for dx in dx.chunks_mut(self.c) {
                for (dx, &dy) in dx.iter_mut().zip(dy) {
                    *dx = if self.accum { *dx + scale * dy } else { scale * dy };
                }
            }
        });
    }
    naive_forms!();
}

const SHAPES: [(usize, usize, usize); 5] =
    [(1, 1, 1), (2, 41, 3), (1, 64, 32), (3, 47, 33), (2, 9, 256)];

pub fn cases() -> Vec<Case> {
    SHAPES
        .into_iter()
        .map(|(n, hw, c)| {
            let fills = vec![Fill::normal(), Fill::Poison];
            Case::new(format!("{n} x {hw} x {c}"), MeanPool { n, hw, c }, fills)
        })
        .collect()
}

pub fn backward_cases() -> Vec<Case> {
    let mut cases = vec![];
    for (turn, (n, hw, c)) in SHAPES.into_iter().enumerate() {
        let accum = turn % 2 == 1;
        let out = if accum { Fill::normal() } else { Fill::Poison };
        cases.push(Case::new(
            format!("{n} x {hw} x {c} accum={accum}"),
            MeanPoolBwd { n, hw, c, accum },
            vec![Fill::normal(), out],
        ));
    }
    cases
}
