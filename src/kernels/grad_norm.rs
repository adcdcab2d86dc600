//! Partial sums of the squared gradient, one launch a segment; [`super::grad_ctl::GradCtl`] makes
//! the norm of them.

use super::sum_all::lane_sum;
use super::{Bind, Caps, Case, Const, Cost, Fill, Io, Kernel, Real, subgroup, wrong_binds};
use crate::naive_forms;
use rayon::prelude::*;
use std::sync::Arc;

/// partials[w] = sum of g^2 over chunk w of ceil(n / partials) elements: bindings g [n],
/// partials [partials]. Every segment binds its own range of one buffer of partials.
#[derive(Debug, Clone)]
pub struct GradNormPartials {
    pub n: usize,
    /// At most 65,535.
    pub partials: usize,
}

impl GradNormPartials {
    fn chunk(&self) -> usize {
        self.n.div_ceil(self.partials)
    }

    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(g), Bind::Out(partials), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        partials.fill(T::zero());
        for (i, &g) in g.iter().enumerate() {
            partials[i / self.chunk()] += g * g;
        }
    }
}

impl Kernel for GradNormPartials {
    fn name(&self) -> &'static str {
        "grad_norm"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/grad_norm.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![subgroup::off()]
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
        Cost { flops: 2 * self.n as u64, bytes: 4 * (self.n + self.partials) as u64 }
    }
    fn variants(&self, caps: &Caps) -> Vec<Arc<dyn Kernel>> {
        subgroup::offer(self, caps)
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [Bind::In(g), Bind::Out(partials), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let empty: &[f32] = &[];
        partials.par_iter_mut().enumerate().for_each(|(w, partial)| {
            let chunk = g.chunks(self.chunk()).nth(w).unwrap_or(empty);
            *partial = lane_sum(chunk, |g| g * g);
        });
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (n, partials) in [(64, 1), (64, 100), (4096, 16), (64 * 1009, 41)] {
        cases.push(Case::new(
            format!("n={n} partials={partials}"),
            GradNormPartials { n, partials },
            vec![Fill::normal(), Fill::Poison],
        ));
    }
    let kernel = GradNormPartials { n: 64 * 47, partials: 7 };
    cases.push(Case::new("integers", kernel, vec![Fill::Ints(-8, 8), Fill::Poison]).exact());
    let mut g = vec![1.0; 128];
    g[100] = f32::NAN;
    let kernel = GradNormPartials { n: 128, partials: 2 };
    cases.push(Case::new("NaN stays visible", kernel, vec![Fill::F32(g), Fill::Poison]));
    cases
}
