//! The centre step of k-means.

use super::{Bind, Case, Const, Cost, Fill, Io, Kernel, Real, grid_1d, int, wrong_binds};
use crate::naive_forms;

/// c_i = sums_i / counts_i where counts_i > 0, unchanged elsewhere. Bindings: counts [k],
/// sums [k, d], codebook [k, d] (read and written).
#[derive(Debug, Clone)]
pub struct KmeansUpdate {
    pub k: usize,
    pub d: usize,
}

impl KmeansUpdate {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(counts), Bind::In(sums), Bind::Out(codebook), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        for i in 0..self.k * self.d {
            let count = counts[i / self.d];
            if count > T::zero() {
                codebook[i] = sums[i] / count;
            }
        }
    }
}

impl Kernel for KmeansUpdate {
    fn name(&self) -> &'static str {
        "kmeans_update"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/kmeans_update.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![int("D", self.d)]
    }
    fn dims(&self) -> Vec<u32> {
        vec![(self.k * self.d) as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.k, self.k * self.d, self.k * self.d]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.k * self.d, 256)
    }
    fn cost(&self) -> Cost {
        let table = (self.k * self.d) as u64;
        Cost { flops: table, bytes: 4 * (2 * table + self.k as u64) }
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (k, d) in [(1, 1), (47, 3), (256, 8), (61, 41)] {
        // Counts 0..=3: about a quarter of the clusters is empty.
        let fills = vec![Fill::Ints(0, 3), Fill::normal(), Fill::normal()];
        cases.push(Case::new(format!("k={k} d={d}"), KmeansUpdate { k, d }, fills));
    }
    cases
}
