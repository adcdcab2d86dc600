//! Softmax cross-entropy over rows of logits, with a weight a row.

use super::cpu::blocks::rows_per_block;
use super::cpu::math::{exp, vectorised};
use super::cpu::reduce::{max, sum};
use super::{
    Bind, Caps, Case, Const, Cost, Fill, Io, Kernel, Real, bindings, flag, grid_1d, int, subgroup,
    wrong_binds,
};
use crate::naive_forms;
use rayon::prelude::*;
use std::sync::Arc;

fn lanes(k: usize) -> usize {
    if k.is_multiple_of(4) { 4 } else { 1 }
}

/// lse = log sum exp(logits), loss = weight (lse - logits[target]), exactly 0 where the weight is
/// 0: such a row may have any target. Elsewhere targets are below k.
/// Bindings: logits [rows, k], target u32 [rows], weight [rows], loss [rows], lse [rows].
#[derive(Debug, Clone)]
pub struct SoftmaxCe {
    pub rows: usize,
    pub k: usize,
}

impl SoftmaxCe {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [
            Bind::In(logits),
            Bind::InU(target),
            Bind::In(weight),
            Bind::Out(loss),
            Bind::Out(lse),
            ..,
        ] = &mut io.binds
        else {
            wrong_binds(self.name())
        };
        for (row, logits) in logits.chunks_exact(self.k).enumerate() {
            let highest = logits.iter().fold(logits[0], |a, &b| a.maximum(b));
            let mut mass = T::zero();
            for &v in logits {
                mass += (v - highest).exp();
            }
            lse[row] = highest + mass.ln();
            loss[row] = if weight[row] == T::zero() {
                T::zero()
            } else {
                weight[row] * (lse[row] - logits[target[row] as usize])
            };
        }
    }
}

impl Kernel for SoftmaxCe {
    fn name(&self) -> &'static str {
        "softmax_ce"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/softmax_ce.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        let lanes = lanes(self.k);
        vec![
            flag("VEC4", lanes == 4),
            int("K", self.k),
            int("WG", (self.k / lanes).next_power_of_two().clamp(32, 256)),
            subgroup::off(),
        ]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.rows as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let rows = self.rows;
        vec![rows * self.k, rows, rows, rows, rows]
    }
    fn half_ok(&self) -> u32 {
        bindings(&[0])
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.rows, 1)
    }
    fn cost(&self) -> Cost {
        let (rows, k) = (self.rows as u64, self.k as u64);
        Cost { flops: 6 * rows * k, bytes: 4 * rows * (k + 4) }
    }
    fn variants(&self, caps: &Caps) -> Vec<Arc<dyn Kernel>> {
        subgroup::offer(self, caps)
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [
            Bind::In(logits),
            Bind::InU(target),
            Bind::In(weight),
            Bind::Out(loss),
            Bind::Out(lse),
            ..,
        ] = &mut io.binds
        else {
            wrong_binds(self.name())
        };
        let (k, block) = (self.k, rows_per_block(self.k));
        let outputs = loss.par_chunks_mut(block).zip(lse.par_chunks_mut(block));
        outputs.enumerate().for_each(|(b, (loss, lse))| {
            vectorised(
                #[inline(always)]
                || {
                    for (row, (loss, lse)) in (b * block..).zip(loss.iter_mut().zip(lse)) {
                        let logits = &logits[row * k..][..k];
                        let highest = max(logits);
                        let log_mass = sum(logits, |v| exp(v - highest)).ln();
                        *lse = highest + log_mass;
                        *loss = if weight[row] == 0.0 {
                            0.0
                        } else {
                            // A target past the row is data gone wrong: the loss shows it.
                            let logit =
                                logits.get(target[row] as usize).copied().unwrap_or(f32::NAN);
                            weight[row] * ((highest - logit) + log_mass)
                        };
                    }
                },
            );
        });
    }
    naive_forms!();
}

/// dlogits = dloss weight (softmax(logits) - onehot(target)), 0 where the weight is 0.
/// Bindings: logits, target, weight, lse, dloss [rows], dlogits [rows, k].
#[derive(Debug, Clone)]
pub struct SoftmaxCeBwd {
    pub rows: usize,
    pub k: usize,
    /// Add to dlogits instead of writing it.
    pub accum: bool,
}

impl SoftmaxCeBwd {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [
            Bind::In(logits),
            Bind::InU(target),
            Bind::In(weight),
            Bind::In(lse),
            Bind::In(dloss),
            Bind::Out(dlogits),
            ..,
        ] = &mut io.binds
        else {
            wrong_binds(self.name())
        };
        for row in 0..self.rows {
            for i in 0..self.k {
                let at = row * self.k + i;
                let onehot = if i == target[row] as usize { T::one() } else { T::zero() };
                let d = if weight[row] == T::zero() {
                    T::zero()
                } else {
                    dloss[row] * weight[row] * ((logits[at] - lse[row]).exp() - onehot)
                };
                dlogits[at] = if self.accum { dlogits[at] + d } else { d };
            }
        }
    }
}

impl Kernel for SoftmaxCeBwd {
    fn name(&self) -> &'static str {
        "softmax_ce_bwd"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/softmax_ce_bwd.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![flag("VEC4", lanes(self.k) == 4), int("K", self.k), flag("ACCUM", self.accum)]
    }
    fn dims(&self) -> Vec<u32> {
        vec![(self.rows * self.k / lanes(self.k)) as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let (rows, all) = (self.rows, self.rows * self.k);
        vec![all, rows, rows, rows, rows, all]
    }
    fn half_ok(&self) -> u32 {
        bindings(&[0, 5])
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.rows * self.k / lanes(self.k), 256)
    }
    fn cost(&self) -> Cost {
        let n = (self.rows * self.k) as u64;
        Cost { flops: 8 * n, bytes: (8 + 4 * u64::from(self.accum)) * n }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [
            Bind::In(logits),
            Bind::InU(target),
            Bind::In(weight),
            Bind::In(lse),
            Bind::In(dloss),
            Bind::Out(dlogits),
            ..,
        ] = &mut io.binds
        else {
            wrong_binds(self.name())
        };
        let (k, accum, block) = (self.k, self.accum, rows_per_block(self.k));
        dlogits.par_chunks_mut(block * k).enumerate().for_each(|(b, dlogits)| {
            vectorised(
                #[inline(always)]
                || {
                    for (row, d) in (b * block..).zip(dlogits.chunks_exact_mut(k)) {
                        if !accum {
                            d.fill(0.0);
                        }
                        let factor = dloss[row] * weight[row];
                        if weight[row] == 0.0 {
                            continue;
                        }
                        let t = target[row] as usize;
                        let logits = &logits[row * k..][..k];
                        // The target's own term apart: p - 1 must be taken before the sum.
                        let before = d.get(t).copied();
                        for (d, &logit) in d.iter_mut().zip(logits) {
                            *d += factor * exp(logit - lse[row]);
                        }
                        if let (Some(d), Some(before)) = (d.get_mut(t), before) {
                            *d = before + factor * (exp(logits[t] - lse[row]) - 1.0);
                        }
                    }
                },
            );
        });
    }
    naive_forms!();
}

const SIZES: [(usize, usize); 7] =
    [(1, 1), (1, 4), (7, 11), (12, 41), (9, 128), (301, 55), (5, 1030)];

/// Every third weight 0.
fn weights(rows: usize) -> Fill {
    Fill::F32((0..rows).map(|r| if r % 3 == 1 { 0.0 } else { 0.5 + r as f32 * 0.125 }).collect())
}

/// Where the weight is 0, a target outside the row.
fn targets(rows: usize, k: usize) -> Fill {
    Fill::U32((0..rows).map(|r| if r % 3 == 1 { k } else { r * 7 % k } as u32).collect())
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (rows, k) in SIZES {
        for (data, std) in [("", 2.0), (" extreme", 60.0)] {
            let fills = vec![
                Fill::Normal { mean: 0.0, std },
                targets(rows, k),
                weights(rows),
                Fill::Poison,
                Fill::Poison,
            ];
            let name = format!("rows={rows} k={k}{data}");
            cases.push(Case::new(name, SoftmaxCe { rows, k }, fills));
        }
    }
    cases
}

pub fn bwd_cases() -> Vec<Case> {
    let mut cases = vec![];
    for (rows, k) in SIZES {
        for accum in [false, true] {
            let fills = vec![
                Fill::normal(),
                targets(rows, k),
                weights(rows),
                Fill::Uniform(2.0, 4.0),
                Fill::normal(),
                if accum { Fill::normal() } else { Fill::Poison },
            ];
            let name = format!("rows={rows} k={k} accum={accum}");
            cases.push(Case::new(name, SoftmaxCeBwd { rows, k, accum }, fills));
        }
    }
    cases
}
