//! The mean distribution over codes of rows of independent bits, its entropy, and the gradient.
//!
//! Bit c of a row is set with probability sigmoid(slope z_c). Channels are cut into groups of at most
//! `group` bits; a row gives each group the distribution P over its 2^group codes (bit b of a code
//! belongs to the group's channel b), and Q is the mean of P over the rows. Never in memory: rows x
//! 2^group.

use super::{
    Bind, Caps, Case, Const, Cost, Fill, Io, Kernel, Real, flag, float, grid_1d, int, subgroup,
    wrong_binds,
};
use crate::naive_forms;
use rayon::prelude::*;
use std::sync::Arc;

/// Bits of the largest group: 1,024 codes.
pub const MAX_GROUP: usize = 10;
/// Probabilities up to this count as 0: about the smallest normal f32.
const FLOOR: f32 = 1.2e-38;

/// How rows become codes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grouping {
    pub rows: usize,
    pub d: usize,
    /// Bits of a group, at most [`MAX_GROUP`]; the last group has what is left.
    pub group: usize,
    /// Finite.
    pub slope: f32,
}

impl Grouping {
    pub fn groups(&self) -> usize {
        self.d.div_ceil(self.group)
    }

    /// Words of Q: every group has 2^group; those that a smaller last group does not use are 0.
    pub fn entries(&self) -> usize {
        self.groups() << self.group
    }

    /// 1 / rows as the kernels have it.
    fn share(&self) -> f32 {
        (1.0 / self.rows as f64) as f32
    }

    fn bits(&self, group: usize) -> usize {
        self.group.min(self.d - group * self.group)
    }

    /// Logits of one row and group.
    fn logits<'a, T>(&self, z: &'a [T], row: usize, group: usize) -> &'a [T] {
        &z[row * self.d + group * self.group..][..self.bits(group)]
    }

    fn consts(&self) -> Vec<Const> {
        vec![int("D", self.d), int("G", self.group), float("SLOPE", self.slope)]
    }
}

/// P(bit b is `set`).
fn chance<T: Real>(slope: f32, z: T, set: bool) -> T {
    let l = T::of(slope.into()) * z;
    if set { l.sigmoid() } else { (-l).sigmoid() }
}

/// The product form of P(code).
fn probability<T: Real>(slope: f32, z: &[T], code: usize) -> T {
    z.iter().enumerate().fold(T::one(), |p, (b, &z)| p * chance(slope, z, code >> b & 1 == 1))
}

/// (1 - s, s) of s = sigmoid(l), both to full relative precision.
fn pair(l: f32) -> (f32, f32) {
    let e = (-l.abs()).exp();
    let (large, small) = (1.0 / (1.0 + e), e / (1.0 + e));
    if l >= 0.0 { (small, large) } else { (large, small) }
}

/// P of all codes, by doubling; the chances of every bit.
fn distribution(slope: f32, z: &[f32], p: &mut [f32; 1 << MAX_GROUP]) -> [(f32, f32); MAX_GROUP] {
    let mut chances = [(0.0, 0.0); MAX_GROUP];
    p[0] = 1.0;
    for (b, &z) in z.iter().enumerate() {
        let (clear, set) = pair(slope * z);
        chances[b] = (clear, set);
        let (low, high) = p.split_at_mut(1 << b);
        for (low, high) in low.iter_mut().zip(high) {
            *high = *low * set;
            *low *= clear;
        }
    }
    chances
}

/// Stage one of Q: bindings z [rows, d], partials [splits, groups, 2^group], each the sum of P over
/// its rows divided by all rows. [`super::SumPartials`] adds them.
#[derive(Debug, Clone)]
pub struct CodeDistribution {
    pub of: Grouping,
    /// At most 65,535.
    pub splits: usize,
}

impl CodeDistribution {
    fn chunk(&self) -> usize {
        self.of.rows.div_ceil(self.splits)
    }

    fn workgroup(&self) -> usize {
        (1 << self.of.group).clamp(32, 256)
    }

    fn rows(&self, split: usize) -> std::ops::Range<usize> {
        (split * self.chunk()).min(self.of.rows)..((split + 1) * self.chunk()).min(self.of.rows)
    }

    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(z), Bind::Out(partials), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let of = self.of;
        for split in 0..self.splits {
            for group in 0..of.groups() {
                for code in 0..1 << of.group {
                    let mut sum = T::zero();
                    for row in self.rows(split).filter(|_| code < 1 << of.bits(group)) {
                        sum += probability(of.slope, of.logits(z, row, group), code);
                    }
                    let at = split * of.entries() + (group << of.group) + code;
                    partials[at] = sum * T::of(of.share().into());
                }
            }
        }
    }
}

impl Kernel for CodeDistribution {
    fn name(&self) -> &'static str {
        "code_distribution"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/code_distribution.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        let mut consts = self.of.consts();
        consts.push(int("WG", self.workgroup()));
        consts
    }
    fn dims(&self) -> Vec<u32> {
        let share = self.of.share();
        vec![self.of.rows as u32, self.chunk() as u32, share.to_bits()]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.of.rows * self.of.d, self.splits * self.of.entries()]
    }
    fn grid(&self) -> [u32; 3] {
        let tiles = (1usize << self.of.group).div_ceil(self.workgroup());
        [tiles as u32, self.of.groups() as u32, self.splits as u32]
    }
    fn cost(&self) -> Cost {
        let (products, words) = (self.of.rows * (self.of.d << self.of.group), self.lens());
        Cost { flops: products as u64, bytes: 4 * (words[0] + words[1]) as u64 }
    }
    fn rounds(&self) -> usize {
        self.chunk() * (self.of.group + 1)
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [Bind::In(z), Bind::Out(partials), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let (of, z) = (self.of, *z);
        let share = of.share();
        partials.par_chunks_mut(of.entries()).enumerate().for_each(|(split, sums)| {
            let mut p = [0.0; 1 << MAX_GROUP];
            sums.fill(0.0);
            for row in self.rows(split) {
                for (group, sums) in sums.chunks_mut(1 << of.group).enumerate() {
                    distribution(of.slope, of.logits(z, row, group), &mut p);
                    let used = 1 << of.bits(group);
                    sums.iter_mut().zip(&p[..used]).for_each(|(sum, p)| *sum += p);
                }
            }
            sums.iter_mut().for_each(|sum| *sum *= share);
        });
    }
    naive_forms!();
}

/// dz (+)= factor dloss dH/dz of H = -sum Q log Q: bindings z [rows, d], log Q [groups, 2^group],
/// dloss [1], dz [rows, d].
///
/// dH/dl_b of a row is -1/rows sum over codes of log Q (bit_b - s_b) P; the 1 of d(Q log Q) = (log Q +
/// 1) dQ drops out, as the sum of (bit_b - s_b) P is 0. `factor` holds all but the slope: 1 / rows.
#[derive(Debug, Clone)]
pub struct CodeDistributionGrad {
    pub of: Grouping,
    /// Finite.
    pub factor: f32,
    /// Add to dz instead of writing it.
    pub accum: bool,
}

impl CodeDistributionGrad {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(z), Bind::In(log_q), Bind::In(dloss), Bind::Out(dz), ..] = &mut io.binds
        else {
            wrong_binds(self.name())
        };
        let of = self.of;
        let scale = T::of(self.factor.into()) * dloss[0] * T::of(of.slope.into());
        for row in 0..of.rows {
            for c in 0..of.d {
                let (group, bit) = (c / of.group, c % of.group);
                let (z, mut sum) = (of.logits(z, row, group), T::zero());
                for code in 0..1usize << z.len() {
                    let set = code >> bit & 1 == 1;
                    let other = chance(of.slope, z[bit], !set);
                    let log_q = log_q[(group << of.group) + code];
                    let term = log_q * probability(of.slope, z, code) * other;
                    sum += if set { term } else { -term };
                }
                let (i, g) = (row * of.d + c, -(scale * sum));
                dz[i] = if self.accum { dz[i] + g } else { g };
            }
        }
    }
}

impl Kernel for CodeDistributionGrad {
    fn name(&self) -> &'static str {
        "code_distribution_grad"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/code_distribution_grad.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        let mut consts = self.of.consts();
        consts.extend([float("FACTOR", self.factor), flag("ACCUM", self.accum)]);
        consts
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.of.rows as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let n = self.of.rows * self.of.d;
        vec![n, self.of.entries(), 1, n]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.of.rows * self.of.groups(), 64)
    }
    fn cost(&self) -> Cost {
        let n = self.of.rows * self.of.d;
        let words = n * (2 + usize::from(self.accum)) + self.of.entries();
        Cost { flops: (n << (self.of.group + 1)) as u64, bytes: 4 * words as u64 }
    }
    fn rounds(&self) -> usize {
        (1 << self.of.group) * (2 * self.of.group + 1)
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [Bind::In(z), Bind::In(log_q), Bind::In(dloss), Bind::Out(dz), ..] = &mut io.binds
        else {
            wrong_binds(self.name())
        };
        const ROWS: usize = 64;
        let (of, z, log_q) = (self.of, *z, *log_q);
        let scale = -(self.factor * dloss[0] * of.slope);
        dz.par_chunks_mut(ROWS * of.d).enumerate().for_each(|(chunk, dz)| {
            let mut w = [0.0f32; 1 << MAX_GROUP];
            for group in 0..of.groups() {
                let codes = 1 << of.bits(group);
                let log_q = &log_q[group << of.group..][..codes];
                for (row, dz) in dz.chunks_mut(of.d).enumerate() {
                    let z = of.logits(z, chunk * ROWS + row, group);
                    let chances = distribution(of.slope, z, &mut w);
                    w[..codes].iter_mut().zip(log_q).for_each(|(w, l)| *w *= l);
                    // The highest bit is settled by the halves, which are then added: one bit fewer.
                    for b in (0..z.len()).rev() {
                        let (low, high) = w[..2 << b].split_at_mut(1 << b);
                        let (clear, set) = chances[b];
                        let g = clear * high.iter().sum::<f32>() - set * low.iter().sum::<f32>();
                        let dz = &mut dz[group * of.group + b];
                        *dz = if self.accum { *dz + scale * g } else { scale * g };
                        low.iter_mut().zip(high).for_each(|(low, high)| *low += *high);
                    }
                }
            }
        });
    }
    naive_forms!();
}

/// h = -sum q log q in nats, and what its gradient needs: bindings q [n], h [1], log q [n].
#[derive(Debug, Clone)]
pub struct DistributionEntropy {
    pub n: usize,
}

impl DistributionEntropy {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(q), Bind::Out(h), Bind::Out(log_q), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let mut sum = T::zero();
        for (&q, log_q) in q.iter().zip(log_q.iter_mut()) {
            *log_q = q.maximum(T::of(FLOOR.into())).ln();
            // NaN is no probability of 0.
            if q.value().is_nan() || q.value() > FLOOR.into() {
                sum += q * *log_q;
            }
        }
        h[0] = -sum;
    }
}

impl Kernel for DistributionEntropy {
    fn name(&self) -> &'static str {
        "distribution_entropy"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/distribution_entropy.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![subgroup::off()]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.n as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.n, 1, self.n]
    }
    fn grid(&self) -> [u32; 3] {
        [1, 1, 1]
    }
    fn cost(&self) -> Cost {
        Cost { flops: 12 * self.n as u64, bytes: 8 * self.n as u64 }
    }
    fn variants(&self, caps: &Caps) -> Vec<Arc<dyn Kernel>> {
        subgroup::offer(self, caps)
    }
    naive_forms!();
}

const SHAPES: [(usize, usize, usize, f32); 6] = [
    (1, 1, 1, 1.0),
    (41, 7, 1, 2.0),
    (61, 5, 3, 4.0),
    (130, 6, 6, 400.0),
    (3, 13, 10, -1.5),
    (37, 9, 9, 0.5),
];

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for ((rows, d, group, slope), splits) in SHAPES.into_iter().zip([1, 1, 4, 3, 2, 5]) {
        let of = Grouping { rows, d, group, slope };
        let name = format!("{rows} x {d} by {group} slope={slope} splits={splits}");
        let fills = vec![Fill::Normal { mean: 0.1, std: 0.7 }, Fill::Poison];
        cases.push(Case::new(name, CodeDistribution { of, splits }, fills));
    }
    cases
}

pub fn grad_cases() -> Vec<Case> {
    let mut cases = vec![];
    for (rows, d, group, slope) in SHAPES {
        let rows = rows.min(41);
        let of = Grouping { rows, d, group, slope };
        for accum in [false, true] {
            let kernel = CodeDistributionGrad { of, factor: 1.0 / rows as f32, accum };
            let out = if accum { Fill::normal() } else { Fill::Poison };
            let z = Fill::Normal { mean: 0.1, std: 0.7 };
            let log_q = Fill::Uniform(-12.0, -2.0);
            let name = format!("{rows} x {d} by {group} slope={slope} accum={accum}");
            cases.push(Case::new(name, kernel, vec![z, log_q, Fill::normal(), out]));
        }
    }
    let of = Grouping { rows: 2, d: 2, group: 2, slope: 400.0 };
    let kernel = CodeDistributionGrad { of, factor: 0.5, accum: false };
    let z = vec![1.0, -1.0, 0.001, 0.9];
    let log_q = vec![FLOOR.ln(), -0.7, FLOOR.ln(), -0.7];
    let fills = vec![Fill::F32(z), Fill::F32(log_q), Fill::normal(), Fill::Poison];
    cases.push(Case::new("codes that do not occur", kernel, fills));
    cases
}

pub fn entropy_cases() -> Vec<Case> {
    let mut cases = vec![];
    for n in [1, 47, 256, 2048] {
        let fills = vec![Fill::Uniform(0.0, 2.0 / n as f32), Fill::Poison, Fill::Poison];
        cases.push(Case::new(format!("n={n}"), DistributionEntropy { n }, fills));
    }
    let q = Fill::F32(vec![0.0, 0.25, 1e-39, 0.75, 1e-30]);
    let fills = vec![q, Fill::Poison, Fill::Poison];
    cases.push(Case::new("zeros", DistributionEntropy { n: 5 }, fills));
    cases
}
