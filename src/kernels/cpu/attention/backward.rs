//! The gradients of attention: dk and dv by blocks of keys, dq by blocks of queries. The
//! probabilities are computed again from the log-sum-exp that the forward pass saved.

use super::lanes::*;
use super::{SCORES, UNIT};
use crate::kernels::attention::AttentionShape;
use crate::kernels::cpu::{math, reduce};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// See [`crate::kernels::attention_bwd::AttentionDelta`].
pub fn delta(s: &AttentionShape, y: &[f32], dy: &[f32], delta: &mut [f32]) {
    delta.par_chunks_mut(s.lq).enumerate().for_each(|(row, delta)| {
        let (b, head) = (row / s.heads, row % s.heads);
        delta.par_chunks_mut(UNIT).enumerate().for_each(|(unit, delta)| {
            math::vectorised(
                #[inline(always)]
                || {
                    for (i, delta) in delta.iter_mut().enumerate() {
                        let at = s.query(b, head, unit * UNIT + i);
                        let (y, dy) = (&y[at..at + s.d], &dy[at..at + s.d]);
                        *delta = reduce::sum2(y, dy, |y, dy| y * dy);
                    }
                },
            );
        });
    });
}

/// See [`crate::kernels::attention_bwd::AttentionBwdKv`]; inputs are q, k, v, dy.
pub fn backward_kv(
    s: &AttentionShape,
    inputs: [&[f32]; 4],
    lse: &[f32],
    delta: &[f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    let width = s.width();
    let rows = dk.par_chunks_mut(s.lk * width).zip(dv.par_chunks_mut(s.lk * width));
    rows.enumerate().for_each(|(b, (dk, dv))| {
        let units = dk.par_chunks_mut(UNIT * width).zip(dv.par_chunks_mut(UNIT * width));
        units.enumerate().for_each(|(unit, (dk, dv))| {
            let first = unit * UNIT;
            SCRATCH.with_borrow_mut(|scratch| {
                Arch::new().dispatch(BackwardKv {
                    s,
                    inputs,
                    lse,
                    delta,
                    b,
                    first,
                    dk,
                    dv,
                    scratch,
                });
            });
        });
    });
}

struct BackwardKv<'a> {
    s: &'a AttentionShape,
    inputs: [&'a [f32]; 4],
    lse: &'a [f32],
    delta: &'a [f32],
    b: usize,
    /// First key of the unit.
    first: usize,
    dk: &'a mut [f32],
    dv: &'a mut [f32],
    scratch: &'a mut Vec<Line>,
}

impl WithSimd for BackwardKv<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let BackwardKv { s, inputs: [q, k, v, dy], lse, delta, b, first, dk, dv, scratch } = self;
        let (d, stride, lanes) = (s.d, s.width(), 2 * S::F32_LANES);
        let keys = dk.len() / stride;
        let [k_block, v_block, p, ds, k_sums, v_sums] =
            tables::<S, 6>(scratch, [d, d, SCORES, SCORES, d, d]);
        for head in 0..s.heads {
            let queries = Tokens::of(s, q, s.query(b, head, 0));
            let upstream = Tokens::of(s, dy, s.query(b, head, 0));
            let row = (b * s.heads + head) * s.lq;
            let (lse, delta) = (&lse[row..row + s.lq], &delta[row..row + s.lq]);
            for start in (0..keys).step_by(lanes) {
                let count = lanes.min(keys - start);
                let at = s.key(b, head, first + start);
                pack::<S>(Tokens::of(s, k, at), count, s.scale, k_block);
                pack::<S>(Tokens::of(s, v, at), count, 1.0, v_block);
                k_sums.fill([simd.splat_f32s(0.0); 2]);
                v_sums.fill([simd.splat_f32s(0.0); 2]);
                for begin in (0..s.lq).step_by(SCORES) {
                    let n = SCORES.min(s.lq - begin);
                    let (p, ds) = (&mut p[..n], &mut ds[..n]);
                    dots(simd, queries.skip(begin), k_block, p);
                    dots(simd, upstream.skip(begin), v_block, ds);
                    for (p, &lse) in p.iter_mut().zip(&lse[begin..]) {
                        *p = exp_above(simd, *p, [simd.splat_f32s(lse); 2]);
                    }
                    for ((ds, p), &delta) in ds.iter_mut().zip(&*p).zip(&delta[begin..]) {
                        *ds = score_gradient(simd, *p, *ds, [simd.splat_f32s(delta); 2]);
                    }
                    mix(simd, upstream.skip(begin), p, v_sums);
                    mix(simd, queries.skip(begin), ds, k_sums);
                }
                let out = start * stride + head * d;
                unpack(simd, k_sums, [simd.splat_f32s(s.scale); 2], &mut dk[out..], stride, count);
                unpack(simd, v_sums, [simd.splat_f32s(1.0); 2], &mut dv[out..], stride, count);
            }
        }
    }
}

/// See [`crate::kernels::attention_bwd::AttentionBwdQ`]; inputs are q, k, v, dy.
pub fn backward_q(
    s: &AttentionShape,
    inputs: [&[f32]; 4],
    lse: &[f32],
    delta: &[f32],
    dq: &mut [f32],
) {
    let width = s.width();
    dq.par_chunks_mut(s.lq * width).enumerate().for_each(|(b, dq)| {
        dq.par_chunks_mut(UNIT * width).enumerate().for_each(|(unit, dq)| {
            let first = unit * UNIT;
            SCRATCH.with_borrow_mut(|scratch| {
                Arch::new().dispatch(BackwardQ { s, inputs, lse, delta, b, first, dq, scratch });
            });
        });
    });
}

struct BackwardQ<'a> {
    s: &'a AttentionShape,
    inputs: [&'a [f32]; 4],
    lse: &'a [f32],
    delta: &'a [f32],
    b: usize,
    /// First query of the unit.
    first: usize,
    dq: &'a mut [f32],
    scratch: &'a mut Vec<Line>,
}

impl WithSimd for BackwardQ<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let BackwardQ { s, inputs: [q, k, v, dy], lse, delta, b, first, dq, scratch } = self;
        let (d, stride, lanes) = (s.d, s.width(), 2 * S::F32_LANES);
        let queries = dq.len() / stride;
        let [q_block, dy_block, p, ds, sums] = tables::<S, 5>(scratch, [d, d, SCORES, SCORES, d]);
        for head in 0..s.heads {
            let keys = Tokens::of(s, k, s.key(b, head, 0));
            let values = Tokens::of(s, v, s.key(b, head, 0));
            for start in (0..queries).step_by(lanes) {
                let count = lanes.min(queries - start);
                let at = s.query(b, head, first + start);
                let row = (b * s.heads + head) * s.lq + first + start;
                let lse = lanes_of::<S>(&lse[row..row + count]);
                let delta = lanes_of::<S>(&delta[row..row + count]);
                pack::<S>(Tokens::of(s, q, at), count, s.scale, q_block);
                pack::<S>(Tokens::of(s, dy, at), count, 1.0, dy_block);
                sums.fill([simd.splat_f32s(0.0); 2]);
                for begin in (0..s.lk).step_by(SCORES) {
                    let n = SCORES.min(s.lk - begin);
                    let (p, ds) = (&mut p[..n], &mut ds[..n]);
                    dots(simd, keys.skip(begin), q_block, p);
                    dots(simd, values.skip(begin), dy_block, ds);
                    for p in &mut *p {
                        *p = exp_above(simd, *p, lse);
                    }
                    for (ds, p) in ds.iter_mut().zip(&*p) {
                        *ds = score_gradient(simd, *p, *ds, delta);
                    }
                    mix(simd, keys.skip(begin), ds, sums);
                }
                let out = start * stride + head * d;
                unpack(simd, sums, [simd.splat_f32s(s.scale); 2], &mut dq[out..], stride, count);
            }
        }
    }
}
