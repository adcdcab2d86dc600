//! Backward of group norm: the gradient of x, from the sums of [`super::group_norm_bwd_sums`].

use super::cpu::blocks::{par_blocks_mut, repeat, repeated_width, rows_per_block, table};
use super::cpu::math::{silu_slope, vectorised};
use super::group_norm::{GroupNormShape, exact_shape, label, shapes};
use super::group_norm_bwd_sums::{inputs, integer_inputs, slope};
use super::{Bind, Case, Const, Cost, Fill, Io, Kernel, Real, bindings, flag, int, wrong_binds};
use crate::naive_forms;
use rayon::prelude::*;
use std::cell::RefCell;

/// dx = rstd (gamma g - mean(gamma g) - xhat mean(gamma g xhat)), means over the group.
/// Bindings: x, stats, gamma, beta, dy, sums, dx.
#[derive(Debug, Clone)]
pub struct GroupNormBwd {
    pub shape: GroupNormShape,
    /// Add to dx instead of writing it.
    pub accum: bool,
}

/// Invocations of a workgroup.
const WG: usize = 256;
/// Elements an invocation handles: enough to pay for the sums over the group's channels.
const PER: usize = 8;

impl GroupNormBwd {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [
            Bind::In(x),
            Bind::In(stats),
            Bind::In(gamma),
            Bind::In(beta),
            Bind::In(dy),
            Bind::In(sums),
            Bind::Out(dx),
            ..,
        ] = &mut io.binds
        else {
            wrong_binds(self.name())
        };
        let GroupNormShape { n, hw, c, groups, silu, .. } = self.shape;
        let width = c / groups;
        let count = T::of((hw * width) as f64);
        for sample in 0..n {
            for channel in 0..c {
                let group = channel / width;
                let (mut mean_g_xhat, mut mean_g) = (T::zero(), T::zero());
                for other in group * width..(group + 1) * width {
                    mean_g_xhat += gamma[other] * sums[sample * 2 * c + other];
                    mean_g += gamma[other] * sums[(sample * 2 + 1) * c + other];
                }
                let (mean_g_xhat, mean_g) = (mean_g_xhat / count, mean_g / count);
                let stat = (sample * groups + group) * 2;
                let (mean, rstd) = (stats[stat], stats[stat + 1]);
                for row in 0..hw {
                    let i = (sample * hw + row) * c + channel;
                    let xhat = (x[i] - mean) * rstd;
                    let v = gamma[channel] * xhat + beta[channel];
                    let g = if silu { dy[i] * slope(v) } else { dy[i] };
                    let d = rstd * (gamma[channel] * g - mean_g - xhat * mean_g_xhat);
                    dx[i] = if self.accum { dx[i] + d } else { d };
                }
            }
        }
    }
}

impl Kernel for GroupNormBwd {
    fn name(&self) -> &'static str {
        "group_norm_bwd"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/group_norm_bwd.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        let mut consts = self.shape.consts_with_stats();
        consts.extend([
            flag("SILU", self.shape.silu),
            flag("ACCUM", self.accum),
            int("WG", WG),
            int("PER", PER),
        ]);
        let strip = self.shape.strip();
        consts.extend(strip.consts());
        consts.push(int("KEPT", if strip.is_wide() { 1 } else { strip.columns }));
        consts
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.shape.hw as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let s = &self.shape;
        vec![s.len(), s.stats_len(), s.c, s.c, s.len(), s.n * 2 * s.c, s.len()]
    }
    fn half_ok(&self) -> u32 {
        bindings(&[0, 4, 6])
    }
    fn grid(&self) -> [u32; 3] {
        let s = &self.shape;
        let strip = s.strip();
        let elements = s.hw * strip.columns;
        [elements.div_ceil(WG * PER) as u32, strip.count(s) as u32, s.n as u32]
    }
    fn cost(&self) -> Cost {
        let len = self.shape.len() as u64;
        let flops = if self.shape.silu { 20 } else { 8 } * len;
        Cost { flops, bytes: (12 + 4 * u64::from(self.accum)) * len }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [
            Bind::In(x),
            Bind::In(stats),
            Bind::In(gamma),
            Bind::In(beta),
            Bind::In(dy),
            Bind::In(sums),
            Bind::Out(dx),
            ..,
        ] = &mut io.binds
        else {
            wrong_binds(self.name())
        };
        let shape = &self.shape;
        let (sample, block) = (shape.hw * shape.c, rows_per_block(shape.c) * shape.c);
        par_blocks_mut(dx, sample, block).for_each(|(s, b, dx)| {
            let begin = s * sample + b * block;
            let (x, dy) = (&x[begin..][..dx.len()], &dy[begin..][..dx.len()]);
            let stats = &stats[s * 2 * shape.groups..][..2 * shape.groups];
            let sums = &sums[s * 2 * shape.c..][..2 * shape.c];
            SCRATCH.with_borrow_mut(|scratch| {
                vectorised(
                    #[inline(always)]
                    || {
                        let factors = BwdFactors::fill(scratch, shape, stats, gamma, beta, sums);
                        match (shape.silu, self.accum) {
                            (false, false) => factors.apply(
                                x,
                                dy,
                                dx,
                                #[inline(always)]
                                |_| 1.0,
                                #[inline(always)]
                                |_, d| d,
                            ),
                            (false, true) => factors.apply(
                                x,
                                dy,
                                dx,
                                #[inline(always)]
                                |_| 1.0,
                                #[inline(always)]
                                |dx, d| dx + d,
                            ),
                            (true, false) => factors.apply(
                                x,
                                dy,
                                dx,
                                silu_slope,
                                #[inline(always)]
                                |_, d| d,
                            ),
                            (true, true) => factors.apply(
                                x,
                                dy,
                                dx,
                                silu_slope,
                                #[inline(always)]
                                |dx, d| dx + d,
                            ),
                        }
                    },
                );
            });
        });
    }
    naive_forms!();
}

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// What dx needs per channel, repeated (see [`repeated_width`]), with d = x - mean:
/// g = dy silu'(scale d + beta), dx = scale g - constant - d of_d.
struct BwdFactors<'a> {
    mean: &'a [f32],
    /// rstd gamma.
    scale: &'a [f32],
    beta: &'a [f32],
    /// rstd mean(gamma g).
    constant: &'a [f32],
    /// rstd^2 mean(gamma g xhat).
    of_d: &'a [f32],
}

impl<'a> BwdFactors<'a> {
    #[inline(always)]
    fn fill(
        scratch: &'a mut Vec<f32>,
        shape: &GroupNormShape,
        stats: &[f32],
        gamma: &[f32],
        beta: &[f32],
        sums: &[f32],
    ) -> Self {
        let (c, width, w) = (shape.c, shape.group_width(), repeated_width(shape.c));
        let count = (shape.hw * width) as f32;
        let [mean, scale, offset, constant, of_d] = table(scratch, w);
        for (group, stat) in stats.chunks_exact(2).enumerate() {
            let channels = group * width..(group + 1) * width;
            let (mut with_xhat, mut plain) = (0.0, 0.0);
            for i in channels.clone() {
                with_xhat += gamma[i] * sums[i];
                plain += gamma[i] * sums[c + i];
                scale[i] = stat[1] * gamma[i];
            }
            mean[channels.clone()].fill(stat[0]);
            constant[channels.clone()].fill(stat[1] * (plain / count));
            of_d[channels].fill(stat[1] * stat[1] * (with_xhat / count));
        }
        offset[..c].copy_from_slice(beta);
        for row in [&mut *mean, scale, offset, constant, of_d] {
            repeat(row, c);
        }
        BwdFactors { mean, scale, beta: offset, constant, of_d }
    }

    #[inline(always)]
    fn apply(
        &self,
        x: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        slope: impl Fn(f32) -> f32,
        store: impl Fn(f32, f32) -> f32,
    ) {
        let w = self.mean.len();
        for ((dx, x), dy) in dx.chunks_mut(w).zip(x.chunks(w)).zip(dy.chunks(w)) {
            let len = dx.len();
            // One length for all, so that the loop has no bounds checks.
            let (x, dy, mean) = (&x[..len], &dy[..len], &self.mean[..len]);
            let (scale, beta) = (&self.scale[..len], &self.beta[..len]);
            let (constant, of_d) = (&self.constant[..len], &self.of_d[..len]);
            for i in 0..len {
                let d = x[i] - mean[i];
                let g = dy[i] * slope(scale[i] * d + beta[i]);
                dx[i] = store(dx[i], scale[i] * g - constant[i] - d * of_d[i]);
            }
        }
    }
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (i, shape) in shapes().enumerate() {
        // Each shape with one of the two stores, alternating; a few with both.
        for accum in [false, true] {
            if i >= 6 && accum == (i / 2 % 2 == 0) {
                continue;
            }
            let out = if accum { Fill::normal() } else { Fill::Poison };
            let fills = [inputs(), vec![Fill::Normal { mean: 0.0, std: 5.0 }, out]].concat();
            let name = format!("{} accum={accum}", label(&shape));
            cases.push(Case::new(name, GroupNormBwd { shape: shape.clone(), accum }, fills));
        }
    }
    let fills = [integer_inputs(), vec![Fill::Ints(-64, 64), Fill::Poison]].concat();
    let kernel = GroupNormBwd { shape: exact_shape(), accum: false };
    cases.push(Case::new("integers", kernel, fills).exact());
    cases
}
