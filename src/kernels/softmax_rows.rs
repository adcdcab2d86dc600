//! Softmax and log-softmax over rows.

use super::cpu::math::{exp, vectorised};
use super::cpu::reduce::{max, sum};
use super::{
    Bind, Caps, Case, Const, Cost, Fill, Io, Kernel, Real, bindings, flag, grid_1d, int, subgroup,
    wrong_binds,
};
use crate::naive_forms;
use rayon::prelude::*;
use std::sync::Arc;

/// Bindings: x [rows, k], y [rows, k].
#[derive(Debug, Clone)]
pub struct SoftmaxRows {
    pub rows: usize,
    pub k: usize,
    /// The logarithm of the softmax.
    pub log: bool,
}

impl SoftmaxRows {
    fn lanes(&self) -> usize {
        if self.k.is_multiple_of(4) { 4 } else { 1 }
    }

    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(x), Bind::Out(y), ..] = &mut io.binds else { wrong_binds(self.name()) };
        for (x, y) in x.chunks_exact(self.k).zip(y.chunks_exact_mut(self.k)) {
            let highest = x.iter().fold(x[0], |a, &b| a.maximum(b));
            let mut mass = T::zero();
            for &v in x {
                mass += (v - highest).exp();
            }
            for (y, &v) in y.iter_mut().zip(x) {
                let above = v - highest;
                *y = if self.log { above - mass.ln() } else { above.exp() / mass };
            }
        }
    }
}

impl Kernel for SoftmaxRows {
    fn name(&self) -> &'static str {
        "softmax_rows"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/softmax_rows.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![
            flag("VEC4", self.lanes() == 4),
            int("K", self.k),
            int("WG", (self.k / self.lanes()).next_power_of_two().clamp(32, 256)),
            flag("LOG", self.log),
            subgroup::off(),
        ]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.rows as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.rows * self.k; 2]
    }
    fn half_ok(&self) -> u32 {
        bindings(&[0, 1])
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.rows, 1)
    }
    fn cost(&self) -> Cost {
        let n = (self.rows * self.k) as u64;
        Cost { flops: 12 * n, bytes: 8 * n }
    }
    fn variants(&self, caps: &Caps) -> Vec<Arc<dyn Kernel>> {
        subgroup::offer(self, caps)
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [Bind::In(x), Bind::Out(y), ..] = &mut io.binds else { wrong_binds(self.name()) };
        let log = self.log;
        y.par_chunks_mut(self.k).zip(x.par_chunks(self.k)).for_each(|(y, x)| {
            vectorised(
                #[inline(always)]
                || {
                    let highest = max(x);
                    for (y, &x) in y.iter_mut().zip(x) {
                        *y = exp(x - highest);
                    }
                    let mass = sum(y, |v| v);
                    if log {
                        let log_mass = mass.ln();
                        for (y, &x) in y.iter_mut().zip(x) {
                            *y = (x - highest) - log_mass;
                        }
                    } else {
                        y.iter_mut().for_each(|y| *y /= mass);
                    }
                },
            );
        });
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (rows, k) in [(1, 1), (3, 17), (41, 64), (5, 129), (2, 1028), (7, 55)] {
        for log in [false, true] {
            for (data, std) in [("", 2.0), (" extreme", 60.0)] {
                let name = format!("rows={rows} k={k} log={log}{data}");
                let fills = vec![Fill::Normal { mean: 0.0, std }, Fill::Poison];
                cases.push(Case::new(name, SoftmaxRows { rows, k, log }, fills));
            }
        }
    }
    cases
}
