//! Kullback-Leibler divergence of diagonal Gaussians from the standard normal, in nats: the sum of
//! (mean^2 + var - 1 - logvar) / 2 with the log-variance clamped as in
//! [`super::sample_gaussian`].

use super::sample_gaussian::{clamped, wide_moments};
use super::{
    Bind, Caps, Case, Const, Cost, Fill, Io, Kernel, Real, flag, float, grid_1d, int, subgroup,
    wrong_binds,
};
use crate::naive_forms;
use rayon::prelude::*;
use std::sync::Arc;

/// Stage one of the sum: bindings moments [rows, 2c] (mean | logvar), partials [partials], chunks of
/// ceil(rows c / partials) components; [`super::sum_finish::SumFinish`] is stage two.
#[derive(Debug, Clone)]
pub struct GaussianKl {
    pub rows: usize,
    pub c: usize,
    /// At most 65,535.
    pub partials: usize,
}

impl GaussianKl {
    fn chunk(&self) -> usize {
        (self.rows * self.c).div_ceil(self.partials)
    }

    fn partial<T: Real>(&self, moments: &[T], w: usize) -> T {
        let mut sum = T::zero();
        for i in w * self.chunk()..((w + 1) * self.chunk()).min(self.rows * self.c) {
            let at = i / self.c * 2 * self.c + i % self.c;
            let (mean, (logvar, _)) = (moments[at], clamped(moments[at + self.c]));
            sum += T::of(0.5) * (mean * mean + logvar.exp() - T::one() - logvar);
        }
        sum
    }

    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(moments), Bind::Out(partials), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        for (w, partial) in partials.iter_mut().enumerate() {
            *partial = self.partial(moments, w);
        }
    }
}

impl Kernel for GaussianKl {
    fn name(&self) -> &'static str {
        "gaussian_kl"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/gaussian_kl.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![int("CHANNELS", self.c), subgroup::off()]
    }
    fn dims(&self) -> Vec<u32> {
        vec![(self.rows * self.c) as u32, self.chunk() as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![2 * self.rows * self.c, self.partials]
    }
    fn grid(&self) -> [u32; 3] {
        [self.partials as u32, 1, 1]
    }
    fn cost(&self) -> Cost {
        let n = (self.rows * self.c) as u64;
        Cost { flops: 14 * n, bytes: 4 * (2 * n + self.partials as u64) }
    }
    fn variants(&self, caps: &Caps) -> Vec<Arc<dyn Kernel>> {
        subgroup::offer(self, caps)
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [Bind::In(moments), Bind::Out(partials), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let moments = *moments;
        partials.par_iter_mut().enumerate().for_each(|(w, p)| *p = self.partial(moments, w));
    }
    naive_forms!();
}

/// dmoments (+)= factor dloss d/dmoments of the divergence: bindings moments [rows, 2c], dloss [1],
/// dmoments [rows, 2c].
#[derive(Debug, Clone)]
pub struct GaussianKlGrad {
    pub rows: usize,
    pub c: usize,
    /// Finite.
    pub factor: f32,
    /// Add to dmoments instead of writing it.
    pub accum: bool,
}

impl GaussianKlGrad {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(moments), Bind::In(dloss), Bind::Out(dmoments), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let scale = T::of(self.factor.into()) * dloss[0];
        for (i, &x) in moments.iter().enumerate() {
            let slope = if i % (2 * self.c) < self.c {
                x
            } else {
                let (logvar, passes) = clamped(x);
                let slope = T::of(0.5) * (logvar.exp() - T::one());
                if passes { slope } else { T::zero() }
            };
            let g = scale * slope;
            dmoments[i] = if self.accum { dmoments[i] + g } else { g };
        }
    }
}

impl Kernel for GaussianKlGrad {
    fn name(&self) -> &'static str {
        "gaussian_kl_grad"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/gaussian_kl_grad.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![int("CHANNELS", self.c), float("FACTOR", self.factor), flag("ACCUM", self.accum)]
    }
    fn dims(&self) -> Vec<u32> {
        vec![(2 * self.rows * self.c) as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let n = 2 * self.rows * self.c;
        vec![n, 1, n]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(2 * self.rows * self.c, 256)
    }
    fn cost(&self) -> Cost {
        let n = 2 * (self.rows * self.c) as u64;
        Cost { flops: 8 * n, bytes: 4 * (2 + u64::from(self.accum)) * n }
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (rows, c, partials) in [(1, 1, 1), (41, 3, 1), (64, 4, 3), (1001, 5, 47)] {
        let kernel = GaussianKl { rows, c, partials };
        let name = format!("{rows} x {c} partials={partials}");
        cases.push(Case::new(name, kernel.clone(), vec![Fill::normal(), Fill::Poison]));
        let fills = vec![Fill::F32(wide_moments(2 * rows * c)), Fill::Poison];
        cases.push(Case::new(format!("{rows} x {c} clamped"), kernel, fills));
    }
    cases
}

pub fn grad_cases() -> Vec<Case> {
    let mut cases = vec![];
    for (rows, c, factor) in [(1, 1, 1.0), (41, 3, -0.3), (257, 4, 1e-3)] {
        for accum in [false, true] {
            let out = if accum { Fill::normal() } else { Fill::Poison };
            cases.push(Case::new(
                format!("{rows} x {c} accum={accum}"),
                GaussianKlGrad { rows, c, factor, accum },
                vec![Fill::F32(wide_moments(2 * rows * c)), Fill::normal(), out],
            ));
        }
    }
    cases
}
