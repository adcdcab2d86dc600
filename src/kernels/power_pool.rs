//! Spectrogram images, linear in dB, as magnitudes at a coarser resolution: power is averaged over
//! square blocks of pixels.

use super::cpu::math::{exp, vectorised};
use super::{
    Bind, Case, Const, Cost, Fill, Io, Kernel, Real, flag, float, grid_1d, int, wrong_binds,
};
use crate::naive_forms;
use rayon::prelude::*;

/// Pixels count as no further from 0 than this: no power underflows or overflows, at up to 200 dB
/// for two units, whatever an untrained decoder gives.
pub const LIMIT: f32 = 2.0;

/// e(x) = exp(2 k (x - 1)), x limited to [-2, 2].
#[inline(always)]
fn power(k: f32, x: f32) -> f32 {
    exp(2.0 * k * (x.clamp(-LIMIT, LIMIT) - 1.0))
}

/// As [`power`], straight from the definition.
fn naive_power<T: Real>(k: f32, x: T) -> T {
    let limit = T::of(LIMIT.into());
    let x = match (x < -limit, limit < x) {
        (true, _) => -limit,
        (_, true) => limit,
        _ => x,
    };
    (T::of(2.0) * T::of(k.into()) * (x - T::one())).exp()
}

/// y = sqrt(mean e(x)) over blocks of r x r pixels. Bindings: x [n, r h, r w, c], y [n, h, w, c].
#[derive(Debug, Clone)]
pub struct PowerPool {
    pub n: usize,
    /// Of y.
    pub h: usize,
    pub w: usize,
    pub c: usize,
    pub r: usize,
    /// d ln y / dx of an even image: ln(10) / 20 for each dB that a unit of x spans.
    pub k: f32,
}

impl PowerPool {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(x), Bind::Out(y), ..] = &mut io.binds else { wrong_binds(self.name()) };
        let PowerPool { n, h, w, c, r, k } = *self;
        for sample in 0..n {
            for (row, column) in (0..h).flat_map(|row| (0..w).map(move |column| (row, column))) {
                for channel in 0..c {
                    let mut sum = T::zero();
                    for dr in 0..r {
                        for dc in 0..r {
                            let line = (sample * h + row) * r + dr;
                            sum +=
                                naive_power(k, x[(line * w * r + column * r + dc) * c + channel]);
                        }
                    }
                    let mean = sum / T::of((r * r) as f64);
                    y[((sample * h + row) * w + column) * c + channel] = mean.sqrt();
                }
            }
        }
    }
}

impl Kernel for PowerPool {
    fn name(&self) -> &'static str {
        "power_pool"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/power_pool.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![int("CHANNELS", self.c), int("R", self.r), float("K", self.k)]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.lens()[1] as u32, self.w as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let y = self.n * self.h * self.w * self.c;
        vec![y * self.r * self.r, y]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.lens()[1], 256)
    }
    fn cost(&self) -> Cost {
        let [x, y] = self.lens()[..] else { return Cost::default() };
        Cost { flops: 12 * x as u64, bytes: 4 * (x + y) as u64 }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [Bind::In(x), Bind::Out(y), ..] = &mut io.binds else { wrong_binds(self.name()) };
        let PowerPool { w, c, r, k, .. } = *self;
        let line = w * r * c;
        y.par_chunks_mut(w * c).zip(x.par_chunks(r * line)).for_each(|(y, x)| {
            vectorised(
                #[inline(always)]
                || {
                    y.fill(0.0);
                    for x in x.chunks_exact(line) {
                        for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(r * c)) {
                            for x in x.chunks_exact(c) {
                                y.iter_mut().zip(x).for_each(|(y, &x)| *y += power(k, x));
                            }
                        }
                    }
                    y.iter_mut().for_each(|y| *y = (*y / (r * r) as f32).sqrt());
                },
            );
        });
    }
    naive_forms!();
}

/// dx (+)= dy k e(x) / (r^2 y), 0 where |x| >= 2. Bindings: x [n, r h, r w, c], y and dy [n, h, w, c],
/// dx as x.
#[derive(Debug, Clone)]
pub struct PowerPoolBwd {
    /// The forward kernel.
    pub pool: PowerPool,
    /// Add to dx instead of writing it.
    pub accum: bool,
}

impl PowerPoolBwd {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(x), Bind::In(y), Bind::In(dy), Bind::Out(dx), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let PowerPool { n, h, w, c, r, k } = self.pool;
        for line in 0..n * h * r {
            for column in 0..w * r {
                for channel in 0..c {
                    let i = (line * w * r + column) * c + channel;
                    let of = ((line / r) * w + column / r) * c + channel;
                    let g = match x[i].abs() < T::of(LIMIT.into()) {
                        true => {
                            dy[of] * T::of(k.into()) * naive_power(k, x[i])
                                / (T::of((r * r) as f64) * y[of])
                        }
                        false => T::zero(),
                    };
                    dx[i] = if self.accum { dx[i] + g } else { g };
                }
            }
        }
    }
}

impl Kernel for PowerPoolBwd {
    fn name(&self) -> &'static str {
        "power_pool_bwd"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/power_pool_bwd.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        let mut consts = self.pool.consts();
        consts.push(flag("ACCUM", self.accum));
        consts
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.lens()[0] as u32, (self.pool.w * self.pool.r) as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let [x, y] = self.pool.lens()[..] else { return vec![] };
        vec![x, y, y, x]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.lens()[0], 256)
    }
    fn cost(&self) -> Cost {
        let accum = u64::from(self.accum);
        let (x, y) = (self.lens()[0] as u64, self.lens()[1] as u64);
        Cost { flops: (16 + accum) * x, bytes: 4 * ((2 + accum) * x + 2 * y) }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [Bind::In(x), Bind::In(y), Bind::In(dy), Bind::Out(dx), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let (accum, &PowerPool { w, c, r, k, .. }) = (self.accum, &self.pool);
        let line = w * r * c;
        dx.par_chunks_mut(line).zip(x.par_chunks(line)).enumerate().for_each(|(i, (dx, x))| {
            let from = i / r * w * c;
            let blocks =
                y[from..][..w * c].chunks_exact(c).zip(dy[from..][..w * c].chunks_exact(c));
            let pixels = dx.chunks_exact_mut(r * c).zip(x.chunks_exact(r * c));
            vectorised(
                #[inline(always)]
                || {
                    for ((dx, x), (y, dy)) in pixels.zip(blocks) {
                        for (dx, x) in dx.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
                            for i in 0..c {
                                let slope = dy[i] * k * power(k, x[i]) / ((r * r) as f32 * y[i]);
                                let g = if x[i].abs() < LIMIT { slope } else { 0.0 };
                                dx[i] = if accum { dx[i] + g } else { g };
                            }
                        }
                    }
                },
            );
        });
    }
    naive_forms!();
}

const POOLS: [(usize, usize, usize, usize, usize); 6] = [
    (1, 1, 1, 1, 1),
    (2, 5, 3, 1, 2),
    (1, 3, 7, 3, 1),
    (3, 2, 4, 5, 4),
    (1, 8, 41, 1, 2),
    (2, 1, 1, 4, 8),
];

fn pools() -> impl Iterator<Item = PowerPool> {
    let of = |(turn, (n, h, w, c, r))| {
        let decibels = [20.0, 40.0, 10.0][turn % 3];
        let k = decibels * std::f32::consts::LN_10 / 20.0;
        PowerPool { n, h, w, c, r, k }
    };
    POOLS.into_iter().enumerate().map(of)
}

/// Most pixels within the limits, some beyond.
fn pixels() -> Fill {
    Fill::Uniform(-2.5, 2.5)
}

pub fn cases() -> Vec<Case> {
    pools().map(|pool| Case::new(format!("{pool:?}"), pool, vec![pixels(), Fill::Poison])).collect()
}

pub fn bwd_cases() -> Vec<Case> {
    let mut cases = vec![];
    for pool in pools() {
        for accum in [false, true] {
            let out = if accum { Fill::normal() } else { Fill::Poison };
            let fills = vec![pixels(), Fill::Uniform(0.1, 3.0), Fill::normal(), out];
            let name = format!("{pool:?} accum={accum}");
            cases.push(Case::new(name, PowerPoolBwd { pool: pool.clone(), accum }, fills));
        }
    }
    cases
}
