//! Group norm (Wu & He 2018) over channels-last activations: the affine map with an optional SiLU
//! behind it. Its statistics are those of [`super::group_norm_stats`].

use super::cpu::blocks::{par_blocks_mut, repeat, repeated_width, rows_per_block, table};
use super::cpu::math::{silu, vectorised};
use super::{
    Bind, Case, Const, Cost, Fill, Io, Kernel, Real, bindings, flag, grid_1d, int, wrong_binds,
};
use crate::naive_forms;
use rayon::prelude::*;
use std::cell::RefCell;

/// x [n, hw, c]; each of the `groups` groups of c / groups neighbouring channels is normalised over
/// its channels and all hw positions of a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupNormShape {
    pub n: usize,
    pub hw: usize,
    pub c: usize,
    /// Divides c.
    pub groups: usize,
    /// Added to the biased variance.
    pub eps: f32,
    /// SiLU after the affine map.
    pub silu: bool,
}

impl GroupNormShape {
    pub fn len(&self) -> usize {
        self.n * self.hw * self.c
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Channels of a group.
    pub fn group_width(&self) -> usize {
        self.c / self.groups
    }
    /// Words of the statistics [n, groups, 2].
    pub fn stats_len(&self) -> usize {
        self.n * self.groups * 2
    }
    /// 4 where rows are whole vec4s, unless a group that is not takes many of them.
    pub(super) fn lanes(&self) -> usize {
        let width = self.group_width();
        let fits = width.is_multiple_of(4) || width <= MOST_COLUMNS;
        if self.c.is_multiple_of(4) && fits { 4 } else { 1 }
    }
    pub(super) fn consts(&self) -> Vec<Const> {
        vec![flag("VEC4", self.lanes() == 4), int("CHANNELS", self.c), int("GROUPS", self.groups)]
    }

    /// The same for shaders that import `group_stats`.
    pub(super) fn consts_with_stats(&self) -> Vec<Const> {
        let mut consts = self.consts();
        consts.push(flag("WHOLE", self.group_width().is_multiple_of(self.lanes())));
        consts
    }

    /// What a workgroup takes of every row: whole groups, and so much of a row that the memory is
    /// read in long pieces.
    pub(super) fn strip(&self) -> Strip {
        /// 256 bytes of f32.
        const ELEMENTS: usize = 16;
        let (width, lanes) = (self.group_width(), self.lanes());
        // The fewest groups that are whole elements.
        let groups = (1..lanes).find(|g| (g * width).is_multiple_of(lanes)).unwrap_or(lanes);
        let times = (ELEMENTS * lanes / (groups * width)).min(self.groups / groups).max(1);
        Strip { groups: groups * times, columns: groups * times * width / lanes }
    }
}

/// More elements of a row than these are one group, of any width.
const MOST_COLUMNS: usize = 64;

/// Neighbouring groups, and the elements of a row that they cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Strip {
    pub groups: usize,
    pub columns: usize,
}

impl Strip {
    /// A single group, of any number of columns.
    pub fn is_wide(self) -> bool {
        self.columns > MOST_COLUMNS
    }
    /// Strips of a row; the last may reach beyond it.
    pub fn count(self, shape: &GroupNormShape) -> usize {
        shape.groups.div_ceil(self.groups)
    }
    pub fn consts(self) -> [Const; 2] {
        [int("STRIP", self.groups), int("COLUMNS", self.columns)]
    }
}

/// y = gamma (x - mean) rstd + beta, then SiLU where the shape says so.
/// Bindings: x, stats, gamma [c], beta [c], y.
#[derive(Debug, Clone)]
pub struct GroupNorm {
    pub shape: GroupNormShape,
}

impl GroupNorm {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(x), Bind::In(stats), Bind::In(gamma), Bind::In(beta), Bind::Out(y), ..] =
            &mut io.binds
        else {
            wrong_binds(self.name())
        };
        let GroupNormShape { n, hw, c, groups, silu, .. } = self.shape;
        for sample in 0..n {
            for row in 0..hw {
                for channel in 0..c {
                    let i = (sample * hw + row) * c + channel;
                    let stat = (sample * groups + channel / (c / groups)) * 2;
                    let xhat = (x[i] - stats[stat]) * stats[stat + 1];
                    let v = xhat * gamma[channel] + beta[channel];
                    y[i] = if silu { v * v.sigmoid() } else { v };
                }
            }
        }
    }
}

impl Kernel for GroupNorm {
    fn name(&self) -> &'static str {
        "group_norm"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/group_norm.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        let mut consts = self.shape.consts_with_stats();
        consts.push(flag("SILU", self.shape.silu));
        consts
    }
    fn dims(&self) -> Vec<u32> {
        vec![(self.shape.len() / self.shape.lanes()) as u32, self.shape.hw as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let s = &self.shape;
        vec![s.len(), s.stats_len(), s.c, s.c, s.len()]
    }
    fn half_ok(&self) -> u32 {
        bindings(&[0, 4])
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.shape.len() / self.shape.lanes(), 256)
    }
    fn cost(&self) -> Cost {
        let len = self.shape.len() as u64;
        Cost { flops: if self.shape.silu { 12 } else { 4 } * len, bytes: 8 * len }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [Bind::In(x), Bind::In(stats), Bind::In(gamma), Bind::In(beta), Bind::Out(y), ..] =
            &mut io.binds
        else {
            wrong_binds(self.name())
        };
        let shape = &self.shape;
        let (sample, block) = (shape.hw * shape.c, rows_per_block(shape.c) * shape.c);
        par_blocks_mut(y, sample, block).for_each(|(s, b, y)| {
            let x = &x[s * sample + b * block..][..y.len()];
            let stats = &stats[s * 2 * shape.groups..][..2 * shape.groups];
            CHANNELS.with_borrow_mut(|scratch| {
                vectorised(
                    #[inline(always)]
                    || {
                        let factors = Factors::fill(scratch, shape, stats, gamma, beta);
                        if shape.silu {
                            factors.apply(x, y, silu);
                        } else {
                            factors.apply(
                                x,
                                y,
                                #[inline(always)]
                                |v| v,
                            );
                        }
                    },
                );
            });
        });
    }
    naive_forms!();
}

thread_local! {
    static CHANNELS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Per-channel mean, rstd * gamma and beta, repeated (see [`repeated_width`]).
struct Factors<'a> {
    mean: &'a [f32],
    scale: &'a [f32],
    beta: &'a [f32],
}

impl<'a> Factors<'a> {
    #[inline(always)]
    fn fill(
        scratch: &'a mut Vec<f32>,
        shape: &GroupNormShape,
        stats: &[f32],
        gamma: &[f32],
        beta: &[f32],
    ) -> Self {
        let (c, w) = (shape.c, repeated_width(shape.c));
        let [mean, scale, offset] = table(scratch, w);
        for (group, stat) in stats.chunks_exact(2).enumerate() {
            let channels = group * shape.group_width()..(group + 1) * shape.group_width();
            mean[channels.clone()].fill(stat[0]);
            for i in channels {
                scale[i] = stat[1] * gamma[i];
            }
        }
        offset[..c].copy_from_slice(beta);
        for row in [&mut *mean, scale, offset] {
            repeat(row, c);
        }
        Factors { mean, scale, beta: offset }
    }

    #[inline(always)]
    fn apply(&self, x: &[f32], y: &mut [f32], f: impl Fn(f32) -> f32) {
        let w = self.mean.len();
        for (y, x) in y.chunks_mut(w).zip(x.chunks(w)) {
            let len = y.len();
            // One length for all, so that the loop has no bounds checks.
            let (x, mean, scale) = (&x[..len], &self.mean[..len], &self.scale[..len]);
            let beta = &self.beta[..len];
            for i in 0..len {
                y[i] = f((x[i] - mean[i]) * scale[i] + beta[i]);
            }
        }
    }
}

/// Shapes of all group-norm kernels: (n, hw, c, groups).
pub(super) const SHAPES: [(usize, usize, usize, usize); 14] = [
    (1, 1, 1, 1),
    (1, 7, 41, 41),
    (2, 25, 8, 2),
    (3, 47, 55, 5),
    (1, 61, 61, 1),
    (1, 129, 64, 32),
    (2, 64, 132, 3),
    (2, 1030, 16, 4),
    // Groups of 3 and 5 channels in vec4s, with a strip that reaches beyond the row; wide groups.
    (2, 40, 12, 4),
    (1, 101, 80, 16),
    (1, 9, 640, 2),
    (2, 11, 516, 2),
    // More groups in a strip than invocations.
    (3, 4, 64, 32),
    (1, 1, 128, 128),
];

pub(super) fn shapes() -> impl Iterator<Item = GroupNormShape> {
    SHAPES.into_iter().flat_map(|(n, hw, c, groups)| {
        [false, true].map(|silu| GroupNormShape { n, hw, c, groups, eps: 1e-6, silu })
    })
}

/// A power-of-two count and small-integer data: everything but the SiLU is exact.
pub(super) fn exact_shape() -> GroupNormShape {
    GroupNormShape { n: 2, hw: 64, c: 24, groups: 3, eps: 1e-6, silu: false }
}

/// Statistics for kernels that are given some: mean and rstd alike.
pub(super) fn stats_fill() -> Fill {
    Fill::Uniform(0.5, 1.5)
}

pub(super) fn label(s: &GroupNormShape) -> String {
    let silu = if s.silu { " silu" } else { "" };
    format!("n={} hw={} c={} groups={}{silu}", s.n, s.hw, s.c, s.groups)
}

pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = shapes()
        .map(|shape| {
            let fills = vec![
                Fill::Normal { mean: 0.0, std: 3.0 },
                stats_fill(),
                Fill::normal(),
                Fill::normal(),
                Fill::Poison,
            ];
            Case::new(label(&shape), GroupNorm { shape }, fills)
        })
        .collect();
    let ints = || Fill::Ints(-3, 3);
    let fills = vec![ints(), Fill::Ints(1, 2), ints(), ints(), Fill::Poison];
    cases.push(Case::new("integers", GroupNorm { shape: exact_shape() }, fills).exact());
    cases
}
