//! How far magnitudes are from a target: the spectral convergence and the log-magnitude distance of
//! Yamamoto, Song & Kim 2020 (1910.11480, equations 5 and 6), sample by sample, and their gradient.

use super::cpu::math::vectorised;
use super::cpu::reduce::{sum, sum2};
use super::{
    Bind, Caps, Case, Const, Cost, Fill, Io, Kernel, Real, flag, float, grid_1d, subgroup,
    wrong_binds,
};
use crate::naive_forms;
use rayon::prelude::*;
use std::sync::Arc;

/// Of each sample of m magnitudes y > 0 with target t > 0: energy = sum t^2,
/// convergence = sqrt(sum (t - y)^2 / energy + eps), loss = convergence + mean |ln(y / t)|.
/// Bindings: y, t [n, m], loss [n], parts [n, 2] = energy and convergence.
#[derive(Debug, Clone)]
pub struct SpectralDistance {
    pub n: usize,
    pub m: usize,
    /// Above 0: the convergence has a slope where y = t.
    pub eps: f32,
}

impl SpectralDistance {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(y), Bind::In(t), Bind::Out(loss), Bind::Out(parts), ..] = &mut io.binds
        else {
            wrong_binds(self.name())
        };
        for sample in 0..self.n {
            let (mut difference, mut energy, mut ratio) = (T::zero(), T::zero(), T::zero());
            for i in sample * self.m..(sample + 1) * self.m {
                let d = t[i] - y[i];
                difference += d * d;
                energy += t[i] * t[i];
                ratio += (y[i] / t[i]).ln().abs();
            }
            let convergence = (difference / energy + T::of(self.eps.into())).sqrt();
            loss[sample] = convergence + ratio / T::of(self.m as f64);
            parts[2 * sample] = energy;
            parts[2 * sample + 1] = convergence;
        }
    }
}

impl Kernel for SpectralDistance {
    fn name(&self) -> &'static str {
        "spectral_distance"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/spectral_distance.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![float("EPS", self.eps), subgroup::off()]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.m as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.n * self.m, self.n * self.m, self.n, 2 * self.n]
    }
    fn grid(&self) -> [u32; 3] {
        [self.n as u32, 1, 1]
    }
    fn cost(&self) -> Cost {
        let n = (self.n * self.m) as u64;
        Cost { flops: 8 * n, bytes: 4 * (2 * n + 3 * self.n as u64) }
    }
    fn rounds(&self) -> usize {
        self.m.div_ceil(256)
    }
    fn variants(&self, caps: &Caps) -> Vec<Arc<dyn Kernel>> {
        subgroup::offer(self, caps)
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [Bind::In(y), Bind::In(t), Bind::Out(loss), Bind::Out(parts), ..] = &mut io.binds
        else {
            wrong_binds(self.name())
        };
        let m = self.m;
        let samples = y.par_chunks(m).zip(t.par_chunks(m));
        let outputs = loss.par_iter_mut().zip(parts.par_chunks_mut(2));
        outputs.zip(samples).for_each(|((loss, parts), (y, t))| {
            let (difference, energy) = vectorised(
                #[inline(always)]
                || (sum2(y, t, |y, t| (t - y) * (t - y)), sum(t, |t| t * t)),
            );
            let convergence = (difference / energy + self.eps).sqrt();
            *loss = convergence + sum2(y, t, |y, t| (y / t).ln().abs()) / m as f32;
            parts.copy_from_slice(&[energy, convergence]);
        });
    }
    naive_forms!();
}

/// dy (+)= factor dloss ((y - t) / (energy convergence) + sign(y - t) / (m y)): the gradient of
/// factor times the sum of [`SpectralDistance`] over samples. Bindings: y, t [n, m], parts [n, 2],
/// dloss [1], dy [n, m].
#[derive(Debug, Clone)]
pub struct SpectralDistanceBwd {
    pub n: usize,
    pub m: usize,
    /// Finite.
    pub factor: f32,
    /// Add to dy instead of writing it.
    pub accum: bool,
}

/// -1, 0 or 1.
#[inline(always)]
fn sign<T: Real>(d: T) -> T {
    match (d > T::zero(), d < T::zero()) {
        (true, _) => T::one(),
        (_, true) => -T::one(),
        _ => T::zero(),
    }
}

impl SpectralDistanceBwd {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(y), Bind::In(t), Bind::In(parts), Bind::In(dloss), Bind::Out(dy), ..] =
            &mut io.binds
        else {
            wrong_binds(self.name())
        };
        for sample in 0..self.n {
            let (energy, convergence) = (parts[2 * sample], parts[2 * sample + 1]);
            for i in sample * self.m..(sample + 1) * self.m {
                let d = y[i] - t[i];
                let slope = d / (energy * convergence) + sign(d) / (T::of(self.m as f64) * y[i]);
                let g = T::of(self.factor.into()) * dloss[0] * slope;
                dy[i] = if self.accum { dy[i] + g } else { g };
            }
        }
    }
}

impl Kernel for SpectralDistanceBwd {
    fn name(&self) -> &'static str {
        "spectral_distance_bwd"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/spectral_distance_bwd.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![float("FACTOR", self.factor), flag("ACCUM", self.accum)]
    }
    fn dims(&self) -> Vec<u32> {
        vec![(self.n * self.m) as u32, self.m as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let n = self.n * self.m;
        vec![n, n, 2 * self.n, 1, n]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.n * self.m, 256)
    }
    fn cost(&self) -> Cost {
        let (n, accum) = ((self.n * self.m) as u64, u64::from(self.accum));
        Cost { flops: (9 + accum) * n, bytes: (3 + accum) * 4 * n }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [Bind::In(y), Bind::In(t), Bind::In(parts), Bind::In(dloss), Bind::Out(dy), ..] =
            &mut io.binds
        else {
            wrong_binds(self.name())
        };
        let (m, accum, scale) = (self.m, self.accum, self.factor * dloss[0]);
        let samples = y.par_chunks(m).zip(t.par_chunks(m)).zip(parts.par_chunks(2));
        dy.par_chunks_mut(m).zip(samples).for_each(|(dy, ((y, t), parts))| {
            let below = parts[0] * parts[1];
            for (dy, (&y, &t)) in dy.iter_mut().zip(y.iter().zip(t)) {
                let g = scale * ((y - t) / below + sign(y - t) / (m as f32 * y));
                *dy = if accum { *dy + g } else { g };
            }
        });
    }
    naive_forms!();
}

const SHAPES: [(usize, usize); 6] = [(1, 1), (3, 41), (2, 256), (1, 257), (5, 61), (2, 1024)];

/// Magnitudes.
fn positive() -> Fill {
    Fill::Uniform(0.01, 2.0)
}

pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = SHAPES
        .into_iter()
        .map(|(n, m)| {
            let fills = vec![positive(), positive(), Fill::Poison, Fill::Poison];
            Case::new(format!("{n} x {m}"), SpectralDistance { n, m, eps: 1e-6 }, fills)
        })
        .collect();
    // Equal magnitudes are sqrt(eps) apart.
    let equal = Fill::F32((1..=96).map(|i| i as f32 / 32.0).collect());
    let fills = vec![equal.clone(), equal, Fill::Poison, Fill::Poison];
    let kernel = SpectralDistance { n: 2, m: 48, eps: 0.25 };
    cases.push(Case::new("equal magnitudes", kernel, fills));
    cases
}

pub fn bwd_cases() -> Vec<Case> {
    let mut cases = vec![];
    for (n, m) in SHAPES {
        for accum in [false, true] {
            let out = if accum { Fill::normal() } else { Fill::Poison };
            let parts = Fill::Uniform(0.5, 2.0);
            let fills = vec![positive(), positive(), parts, Fill::normal(), out];
            let kernel = SpectralDistanceBwd { n, m, factor: 0.37, accum };
            cases.push(Case::new(format!("{n} x {m} accum={accum}"), kernel, fills));
        }
    }
    cases
}
