//! Backward of group norm: per-channel sums, from which the gradients of gamma and beta
//! ([`super::norm_param_grad`]) and of x ([`super::group_norm_bwd`]) follow.

use super::cpu::blocks::{fold, repeat, repeated_width, rows_per_block, table};
use super::cpu::math::{silu_slope, vectorised};
use super::group_norm::{GroupNormShape, exact_shape, label, shapes, stats_fill};
use super::{Bind, Case, Const, Cost, Fill, Io, Kernel, Real, bindings, flag, int, wrong_binds};
use crate::naive_forms;
use rayon::prelude::*;
use std::cell::RefCell;

/// Derivative of SiLU, from the definition.
pub(super) fn slope<T: Real>(v: T) -> T {
    let s = v.sigmoid();
    s * (T::one() + v * (T::one() - s))
}

/// Per sample and channel the sums over hw of g xhat and of g, with xhat = (x - mean) rstd and
/// g = dy silu'(gamma xhat + beta), or dy without SiLU.
/// Bindings: x, stats, gamma, beta, dy, sums [n, 2, c].
#[derive(Debug, Clone)]
pub struct GroupNormBwdSums {
    pub shape: GroupNormShape,
}

/// Columns and invocations of a workgroup.
const COLUMNS: usize = 16;
const WG: usize = 256;

impl GroupNormBwdSums {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [
            Bind::In(x),
            Bind::In(stats),
            Bind::In(gamma),
            Bind::In(beta),
            Bind::In(dy),
            Bind::Out(sums),
            ..,
        ] = &mut io.binds
        else {
            wrong_binds(self.name())
        };
        let GroupNormShape { n, hw, c, groups, silu, .. } = self.shape;
        for sample in 0..n {
            for channel in 0..c {
                let stat = (sample * groups + channel / (c / groups)) * 2;
                let (mut with_xhat, mut plain) = (T::zero(), T::zero());
                for row in 0..hw {
                    let i = (sample * hw + row) * c + channel;
                    let xhat = (x[i] - stats[stat]) * stats[stat + 1];
                    let v = gamma[channel] * xhat + beta[channel];
                    let g = if silu { dy[i] * slope(v) } else { dy[i] };
                    with_xhat += g * xhat;
                    plain += g;
                }
                sums[sample * 2 * c + channel] = with_xhat;
                sums[(sample * 2 + 1) * c + channel] = plain;
            }
        }
    }
}

impl Kernel for GroupNormBwdSums {
    fn name(&self) -> &'static str {
        "group_norm_bwd_sums"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/group_norm_bwd_sums.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        let mut consts = self.shape.consts_with_stats();
        consts.extend([flag("SILU", self.shape.silu), int("COLUMNS", COLUMNS), int("WG", WG)]);
        consts
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.shape.hw as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let s = &self.shape;
        vec![s.len(), s.stats_len(), s.c, s.c, s.len(), s.n * 2 * s.c]
    }
    fn half_ok(&self) -> u32 {
        bindings(&[0, 4])
    }
    fn grid(&self) -> [u32; 3] {
        let columns = self.shape.c / self.shape.lanes();
        [columns.div_ceil(COLUMNS) as u32, self.shape.n as u32, 1]
    }
    fn cost(&self) -> Cost {
        let len = self.shape.len() as u64;
        Cost { flops: if self.shape.silu { 18 } else { 5 } * len, bytes: 8 * len }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [
            Bind::In(x),
            Bind::In(stats),
            Bind::In(gamma),
            Bind::In(beta),
            Bind::In(dy),
            Bind::Out(sums),
            ..,
        ] = &mut io.binds
        else {
            wrong_binds(self.name())
        };
        let shape = &self.shape;
        let (sample, block) = (shape.hw * shape.c, rows_per_block(shape.c) * shape.c);
        let blocks = sample.div_ceil(block);
        let mut partials = PARTIALS.take();
        partials.resize(shape.n * blocks * 2 * shape.c, 0.0);
        partials.par_chunks_mut(2 * shape.c).enumerate().for_each(|(unit, partial)| {
            let (begin, s) = (unit % blocks * block, unit / blocks);
            let range = s * sample + begin..s * sample + (begin + block).min(sample);
            let (x, dy) = (&x[range.clone()], &dy[range]);
            let stats = &stats[s * 2 * shape.groups..][..2 * shape.groups];
            SCRATCH.with_borrow_mut(|scratch| {
                vectorised(
                    #[inline(always)]
                    || block_sums(shape, x, dy, stats, gamma, beta, scratch, partial),
                );
            });
        });
        let of_samples = partials.par_chunks(blocks * 2 * shape.c);
        sums.par_chunks_mut(2 * shape.c).zip(of_samples).for_each(|(sums, parts)| {
            vectorised(
                #[inline(always)]
                || {
                    sums.fill(0.0);
                    for part in parts.chunks_exact(2 * shape.c) {
                        sums.iter_mut().zip(part).for_each(|(sum, v)| *sum += v);
                    }
                },
            );
        });
        PARTIALS.set(partials);
    }
    naive_forms!();
}

thread_local! {
    static PARTIALS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

#[expect(clippy::too_many_arguments, reason = "the bindings of the kernel")]
#[inline(always)]
fn block_sums(
    shape: &GroupNormShape,
    x: &[f32],
    dy: &[f32],
    stats: &[f32],
    gamma: &[f32],
    beta: &[f32],
    scratch: &mut Vec<f32>,
    out: &mut [f32],
) {
    let (c, width, w) = (shape.c, shape.group_width(), repeated_width(shape.c));
    let [mean, scale, offset, with_x, plain] = table(scratch, w);
    for (group, stat) in stats.chunks_exact(2).enumerate() {
        let channels = group * width..(group + 1) * width;
        mean[channels.clone()].fill(stat[0]);
        for i in channels {
            scale[i] = stat[1] * gamma[i];
        }
    }
    offset[..c].copy_from_slice(beta);
    for row in [&mut *mean, scale, offset] {
        repeat(row, c);
    }
    with_x.fill(0.0);
    plain.fill(0.0);
    // rstd is common to a channel: xhat's factor is left to the end.
    for (x, dy) in x.chunks(w).zip(dy.chunks(w)) {
        let len = x.len();
        let (dy, mean, scale) = (&dy[..len], &mean[..len], &scale[..len]);
        let (offset, with_x, plain) = (&offset[..len], &mut with_x[..len], &mut plain[..len]);
        if shape.silu {
            for i in 0..len {
                let d = x[i] - mean[i];
                let g = dy[i] * silu_slope(scale[i] * d + offset[i]);
                with_x[i] += g * d;
                plain[i] += g;
            }
        } else {
            for i in 0..len {
                with_x[i] += dy[i] * (x[i] - mean[i]);
                plain[i] += dy[i];
            }
        }
    }
    fold(with_x, c);
    fold(plain, c);
    let (with_xhat, sums) = out.split_at_mut(c);
    for (group, stat) in stats.chunks_exact(2).enumerate() {
        for i in group * width..(group + 1) * width {
            with_xhat[i] = stat[1] * with_x[i];
        }
    }
    sums.copy_from_slice(&plain[..c]);
}

/// x, stats, gamma, beta and dy of the cases.
pub(super) fn inputs() -> Vec<Fill> {
    vec![
        Fill::Normal { mean: 0.0, std: 2.0 },
        stats_fill(),
        Fill::normal(),
        Fill::normal(),
        Fill::normal(),
    ]
}

/// The same where all but the SiLU is exact.
pub(super) fn integer_inputs() -> Vec<Fill> {
    let ints = || Fill::Ints(-3, 3);
    vec![ints(), Fill::Ints(1, 2), ints(), ints(), ints()]
}

pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = shapes()
        .map(|shape| {
            let fills = [inputs(), vec![Fill::Poison]].concat();
            Case::new(label(&shape), GroupNormBwdSums { shape }, fills)
        })
        .collect();
    let fills = [integer_inputs(), vec![Fill::Poison]].concat();
    cases.push(Case::new("integers", GroupNormBwdSums { shape: exact_shape() }, fills).exact());
    cases
}
