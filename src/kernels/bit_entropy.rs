//! Entropy of independent bits, each set with probability sigmoid(slope z), in nats.
//!
//! With l = slope z, a = |l| and e = exp(-a) it is log(1 + e) + a e / (1 + e): softplus(l) - l sigmoid(l)
//! without the difference of large numbers. Its slope in l is -l e / (1 + e)^2.

use super::{
    Bind, Caps, Case, Const, Cost, Fill, Io, Kernel, Real, flag, float, grid_1d, subgroup,
    wrong_binds,
};
use crate::naive_forms;
use rayon::prelude::*;
use std::sync::Arc;

/// Stage one of the sum over all bits: bindings z [n], partials [partials], chunks of
/// ceil(n / partials) elements; [`super::sum_finish::SumFinish`] is stage two.
#[derive(Debug, Clone)]
pub struct BitEntropy {
    pub n: usize,
    /// Finite.
    pub slope: f32,
    /// At most 65,535.
    pub partials: usize,
}

impl BitEntropy {
    fn chunk(&self) -> usize {
        self.n.div_ceil(self.partials)
    }

    fn partial<T: Real>(&self, z: &[T], w: usize) -> T {
        let mut sum = T::zero();
        for &z in &z[(w * self.chunk()).min(self.n)..((w + 1) * self.chunk()).min(self.n)] {
            let a = (T::of(self.slope.into()) * z).abs();
            let e = (-a).exp();
            sum += (T::one() + e).ln() + a * e / (T::one() + e);
        }
        sum
    }

    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(z), Bind::Out(partials), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        for (w, partial) in partials.iter_mut().enumerate() {
            *partial = self.partial(z, w);
        }
    }
}

impl Kernel for BitEntropy {
    fn name(&self) -> &'static str {
        "bit_entropy"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/bit_entropy.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![float("SLOPE", self.slope), subgroup::off()]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.n as u32, self.chunk() as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.n, self.partials]
    }
    fn grid(&self) -> [u32; 3] {
        [self.partials as u32, 1, 1]
    }
    fn cost(&self) -> Cost {
        Cost { flops: 30 * self.n as u64, bytes: 4 * (self.n + self.partials) as u64 }
    }
    fn variants(&self, caps: &Caps) -> Vec<Arc<dyn Kernel>> {
        subgroup::offer(self, caps)
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [Bind::In(z), Bind::Out(partials), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let z = *z;
        partials.par_iter_mut().enumerate().for_each(|(w, p)| *p = self.partial(z, w));
    }
    naive_forms!();
}

/// dz (+)= factor dloss d/dz of the entropy: bindings z [n], dloss [1], dz [n].
#[derive(Debug, Clone)]
pub struct BitEntropyGrad {
    pub n: usize,
    /// Finite.
    pub slope: f32,
    /// Finite.
    pub factor: f32,
    /// Add to dz instead of writing it.
    pub accum: bool,
}

impl BitEntropyGrad {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(z), Bind::In(dloss), Bind::Out(dz), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let slope = T::of(self.slope.into());
        let scale = T::of(self.factor.into()) * dloss[0] * slope;
        for i in 0..self.n {
            let l = slope * z[i];
            let e = (-l.abs()).exp();
            let g = -(scale * l * e / ((T::one() + e) * (T::one() + e)));
            dz[i] = if self.accum { dz[i] + g } else { g };
        }
    }
}

impl Kernel for BitEntropyGrad {
    fn name(&self) -> &'static str {
        "bit_entropy_grad"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/bit_entropy_grad.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![float("SLOPE", self.slope), float("FACTOR", self.factor), flag("ACCUM", self.accum)]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.n as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.n, 1, self.n]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.n, 256)
    }
    fn cost(&self) -> Cost {
        let n = self.n as u64;
        Cost { flops: 20 * n, bytes: 4 * (2 + u64::from(self.accum)) * n }
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (n, partials, slope) in [(1, 1, 1.0), (255, 1, 4.0), (257, 4, 400.0), (5003, 47, -0.5)] {
        let kernel = BitEntropy { n, slope, partials };
        let name = format!("n={n} partials={partials} slope={slope}");
        cases.push(Case::new(name, kernel, vec![Fill::normal(), Fill::Poison]));
    }
    // The last ones lie on both sides of where the logarithm becomes a series.
    let z = vec![0.0, -0.0, 60.0, -60.0, 1e-4, -1e-4, 0.03, -0.05, 0.011, -0.01];
    let kernel = BitEntropy { n: 10, slope: 400.0, partials: 10 };
    cases.push(Case::new("one by one", kernel, vec![Fill::F32(z), Fill::Poison]));
    cases
}

pub fn grad_cases() -> Vec<Case> {
    let mut cases = vec![];
    for (n, slope) in [(1, 1.0), (61, 4.0), (257, 400.0), (1025, -0.5)] {
        for accum in [false, true] {
            let out = if accum { Fill::normal() } else { Fill::Poison };
            cases.push(Case::new(
                format!("n={n} slope={slope} accum={accum}"),
                BitEntropyGrad { n, slope, factor: 1.0 / n as f32, accum },
                vec![Fill::Normal { mean: 0.0, std: 0.5 }, Fill::normal(), out],
            ));
        }
    }
    cases
}
