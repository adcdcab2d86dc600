//! Attention on the CPU. A block of queries (or, for dk and dv, of keys) lies across the lanes of
//! two vector registers; the tokens on the other side are taken one after another. Then the two
//! products of attention, and the softmax between them, are vertical vector operations:
//!
//! * [`dots`]: score[j] = sum over x of rows[j][x] block[x], one register pair a token j;
//! * [`mix`]: sum[x] += sum over j of rows[j][x] score[j].
//!
//! Only the block is transposed, once. Every lane is computed alone and in a fixed order, so the
//! bits depend neither on the number of threads nor on how tokens are grouped into blocks.

use super::math::exp_lanes;
use crate::kernels::attention::AttentionShape;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::cell::RefCell;

/// Tokens of a unit of parallel work, all heads.
const UNIT: usize = 32;
/// Tokens of the other side whose scores are held at a time.
const SCORES: usize = 64;
/// Tokens (or components) that share the loads of one pass.
const TOGETHER: usize = 4;

/// One value for each token of a block.
type Lanes<S> = [<S as Simd>::f32s; 2];

/// A cache line, so that no register load of the scratch straddles two.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([f32; 16]);

thread_local! {
    static SCRATCH: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// A head of consecutive tokens: token j starts at `data[j * stride]` and has `d` components.
#[derive(Clone, Copy)]
struct Tokens<'a> {
    data: &'a [f32],
    stride: usize,
    d: usize,
}

impl<'a> Tokens<'a> {
    /// The tokens of a head from word `at` on.
    #[inline(always)]
    fn of(s: &AttentionShape, data: &'a [f32], at: usize) -> Self {
        Tokens { data: &data[at..], stride: s.width(), d: s.d }
    }
    #[inline(always)]
    fn token(&self, j: usize) -> &'a [f32] {
        &self.data[j * self.stride..][..self.d]
    }
    #[inline(always)]
    fn skip(&self, j: usize) -> Self {
        Tokens { data: &self.data[j * self.stride..], ..*self }
    }
}

/// out[j] = sum over x of tokens[j][x] block[x].
#[inline(always)]
fn dots<S: Simd>(simd: S, tokens: Tokens<'_>, block: &[Lanes<S>], out: &mut [Lanes<S>]) {
    let zero = [simd.splat_f32s(0.0); 2];
    let (groups, rest) = out.as_chunks_mut::<TOGETHER>();
    for (g, out) in groups.iter_mut().enumerate() {
        let at = g * TOGETHER;
        let (a, b) = (tokens.token(at), tokens.token(at + 1));
        let (c, d) = (tokens.token(at + 2), tokens.token(at + 3));
        let mut sums = [zero; TOGETHER];
        for (t, ((&a, &b), (&c, &d))) in block.iter().zip(a.iter().zip(b).zip(c.iter().zip(d))) {
            let components = [a, b, c, d];
            for r in 0..TOGETHER {
                let a = simd.splat_f32s(components[r]);
                sums[r][0] = simd.mul_add_e_f32s(a, t[0], sums[r][0]);
                sums[r][1] = simd.mul_add_e_f32s(a, t[1], sums[r][1]);
            }
        }
        *out = sums;
    }
    let done = groups.len() * TOGETHER;
    for (j, out) in rest.iter_mut().enumerate() {
        let mut sum = zero;
        for (&a, t) in tokens.token(done + j).iter().zip(block) {
            let a = simd.splat_f32s(a);
            sum[0] = simd.mul_add_e_f32s(a, t[0], sum[0]);
            sum[1] = simd.mul_add_e_f32s(a, t[1], sum[1]);
        }
        *out = sum;
    }
}

/// sums[x] += sum over j of tokens[j][x] weights[j].
#[inline(always)]
fn mix<S: Simd>(simd: S, tokens: Tokens<'_>, weights: &[Lanes<S>], sums: &mut [Lanes<S>]) {
    let (groups, rest) = sums.as_chunks_mut::<TOGETHER>();
    for (g, out) in groups.iter_mut().enumerate() {
        let mut sums = *out;
        for (j, w) in weights.iter().enumerate() {
            let at = j * tokens.stride + g * TOGETHER;
            let row = &tokens.data[at..at + TOGETHER];
            for r in 0..TOGETHER {
                let a = simd.splat_f32s(row[r]);
                sums[r][0] = simd.mul_add_e_f32s(a, w[0], sums[r][0]);
                sums[r][1] = simd.mul_add_e_f32s(a, w[1], sums[r][1]);
            }
        }
        *out = sums;
    }
    let done = groups.len() * TOGETHER;
    for (x, sum) in rest.iter_mut().enumerate() {
        for (j, w) in weights.iter().enumerate() {
            let a = simd.splat_f32s(tokens.data[j * tokens.stride + done + x]);
            sum[0] = simd.mul_add_e_f32s(a, w[0], sum[0]);
            sum[1] = simd.mul_add_e_f32s(a, w[1], sum[1]);
        }
    }
}

/// exp(score - from[lane]) of a row of scores.
#[inline(always)]
fn exp_above<S: Simd>(simd: S, score: Lanes<S>, from: Lanes<S>) -> Lanes<S> {
    let above = [simd.sub_f32s(score[0], from[0]), simd.sub_f32s(score[1], from[1])];
    [exp_lanes(simd, above[0]), exp_lanes(simd, above[1])]
}

/// Lane by lane a b.
#[inline(always)]
fn product<S: Simd>(simd: S, a: Lanes<S>, b: Lanes<S>) -> Lanes<S> {
    [simd.mul_f32s(a[0], b[0]), simd.mul_f32s(a[1], b[1])]
}

/// Lane by lane a + b.
#[inline(always)]
fn plus<S: Simd>(simd: S, a: Lanes<S>, b: Lanes<S>) -> Lanes<S> {
    [simd.add_f32s(a[0], b[0]), simd.add_f32s(a[1], b[1])]
}

/// Lane by lane p (dp - delta).
#[inline(always)]
fn score_gradient<S: Simd>(simd: S, p: Lanes<S>, dp: Lanes<S>, delta: Lanes<S>) -> Lanes<S> {
    product(simd, p, [simd.sub_f32s(dp[0], delta[0]), simd.sub_f32s(dp[1], delta[1])])
}

/// Lays the components of up to a block of tokens across the lanes, times `factor`; the lanes of
/// missing tokens are zero.
#[inline(always)]
fn pack<S: Simd>(tokens: Tokens<'_>, count: usize, factor: f32, block: &mut [Lanes<S>]) {
    let lanes = 2 * S::F32_LANES;
    let flat: &mut [f32] = bytemuck::cast_slice_mut(block.as_flattened_mut());
    flat.fill(0.0);
    let whole = (count & !3, tokens.d & !3);
    for lane in (0..whole.0).step_by(4) {
        for x in (0..whole.1).step_by(4) {
            let mut square = [[0.0; 4]; 4];
            for (r, row) in square.iter_mut().enumerate() {
                row.copy_from_slice(&tokens.token(lane + r)[x..x + 4]);
            }
            for (r, row) in transpose(square).iter().enumerate() {
                let out = &mut flat[(x + r) * lanes + lane..][..4];
                for (out, &v) in out.iter_mut().zip(row) {
                    *out = v * factor;
                }
            }
        }
    }
    for lane in 0..count {
        let from = if lane < whole.0 { whole.1 } else { 0 };
        for (x, &v) in tokens.token(lane).iter().enumerate().skip(from) {
            flat[x * lanes + lane] = v * factor;
        }
    }
}

/// The reverse of [`pack`]: component x of token `lane` of `out` becomes sums[x][lane] *
/// factor[lane].
#[inline(always)]
fn unpack<S: Simd>(
    simd: S,
    sums: &mut [Lanes<S>],
    factor: Lanes<S>,
    out: &mut [f32],
    stride: usize,
    count: usize,
) {
    for sum in &mut *sums {
        *sum = product(simd, *sum, factor);
    }
    let (lanes, d) = (2 * S::F32_LANES, sums.len());
    let flat: &[f32] = bytemuck::cast_slice(sums.as_flattened());
    let whole = (count & !3, d & !3);
    for lane in (0..whole.0).step_by(4) {
        for x in (0..whole.1).step_by(4) {
            let mut square = [[0.0; 4]; 4];
            for (r, row) in square.iter_mut().enumerate() {
                row.copy_from_slice(&flat[(x + r) * lanes + lane..][..4]);
            }
            for (r, row) in transpose(square).iter().enumerate() {
                out[(lane + r) * stride + x..][..4].copy_from_slice(row);
            }
        }
    }
    for lane in 0..count {
        let from = if lane < whole.0 { whole.1 } else { 0 };
        for x in from..d {
            out[lane * stride + x] = flat[x * lanes + lane];
        }
    }
}

/// Plain moves that LLVM turns into shuffles.
#[inline(always)]
fn transpose([a, b, c, d]: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
    [
        [a[0], b[0], c[0], d[0]],
        [a[1], b[1], c[1], d[1]],
        [a[2], b[2], c[2], d[2]],
        [a[3], b[3], c[3], d[3]],
    ]
}

/// Per-token values across the lanes; missing tokens repeat the last.
#[inline(always)]
fn lanes_of<S: Simd>(values: &[f32]) -> Lanes<S> {
    let mut lanes: Lanes<S> = bytemuck::Zeroable::zeroed();
    let flat: &mut [f32] = bytemuck::cast_slice_mut(&mut lanes);
    for (i, lane) in flat.iter_mut().enumerate() {
        *lane = values[i.min(values.len() - 1)];
    }
    lanes
}

/// Cuts the scratch into tables of the given numbers of rows.
#[inline(always)]
fn tables<S: Simd, const N: usize>(
    scratch: &mut Vec<Line>,
    rows: [usize; N],
) -> [&mut [Lanes<S>]; N] {
    let words = rows.iter().sum::<usize>() * 2 * S::F32_LANES;
    let lines = words.div_ceil(16);
    if scratch.len() < lines {
        scratch.resize(lines, bytemuck::Zeroable::zeroed());
    }
    let all: &mut [f32] = bytemuck::cast_slice_mut(scratch);
    let all: &mut [S::f32s] = bytemuck::cast_slice_mut(&mut all[..words]);
    let mut rest: &mut [Lanes<S>] = all.as_chunks_mut().0;
    rows.map(|n| {
        let (table, tail) = std::mem::take(&mut rest).split_at_mut(n);
        rest = tail;
        table
    })
}

/// See [`crate::kernels::attention::Attention`].
pub fn forward(
    s: &AttentionShape,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    y: &mut [f32],
    lse: &mut [f32],
) {
    let width = s.width();
    // A unit owns whole tokens, so it writes lse token by token, heads innermost; one small
    // transposition at the end brings it to [batch, heads, lq].
    let mut by_token = TRANSPOSED.take();
    by_token.resize(lse.len(), 0.0);
    {
        let rows = y.par_chunks_mut(s.lq * width).zip(by_token.par_chunks_mut(s.lq * s.heads));
        rows.enumerate().for_each(|(b, (y, lse))| {
            let units = y.par_chunks_mut(UNIT * width).zip(lse.par_chunks_mut(UNIT * s.heads));
            units.enumerate().for_each(|(unit, (y, lse))| {
                SCRATCH.with_borrow_mut(|scratch| {
                    Arch::new().dispatch(Forward {
                        s,
                        q,
                        k,
                        v,
                        b,
                        first: unit * UNIT,
                        y,
                        lse,
                        scratch,
                    });
                });
            });
        });
    }
    for (b, lse) in lse.chunks_exact_mut(s.lq * s.heads).enumerate() {
        for (head, lse) in lse.chunks_exact_mut(s.lq).enumerate() {
            for (i, lse) in lse.iter_mut().enumerate() {
                *lse = by_token[(b * s.lq + i) * s.heads + head];
            }
        }
    }
    TRANSPOSED.set(by_token);
}

thread_local! {
    static TRANSPOSED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

struct Forward<'a> {
    s: &'a AttentionShape,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    b: usize,
    /// First query of the unit.
    first: usize,
    /// The unit's rows of y, and its lse [queries, heads].
    y: &'a mut [f32],
    lse: &'a mut [f32],
    scratch: &'a mut Vec<Line>,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Forward { s, q, k, v, b, first, y, lse, scratch } = self;
        let (d, stride, lanes) = (s.d, s.width(), 2 * S::F32_LANES);
        let queries = y.len() / stride;
        let [block, scores, sums] = tables::<S, 3>(scratch, [d, SCORES, d]);
        for head in 0..s.heads {
            let keys = Tokens::of(s, k, s.key(b, head, 0));
            let values = Tokens::of(s, v, s.key(b, head, 0));
            for start in (0..queries).step_by(lanes) {
                let count = lanes.min(queries - start);
                pack::<S>(Tokens::of(s, q, s.query(b, head, first + start)), count, s.scale, block);
                sums.fill([simd.splat_f32s(0.0); 2]);
                let mut highest = [simd.splat_f32s(f32::MIN); 2];
                let mut mass = [simd.splat_f32s(0.0); 2];
                for begin in (0..s.lk).step_by(SCORES) {
                    let scores = &mut scores[..SCORES.min(s.lk - begin)];
                    dots(simd, keys.skip(begin), block, scores);
                    let mut higher = highest;
                    for score in &*scores {
                        higher[0] = simd.max_f32s(higher[0], score[0]);
                        higher[1] = simd.max_f32s(higher[1], score[1]);
                    }
                    let shrink = exp_above(simd, highest, higher);
                    highest = higher;
                    mass = product(simd, mass, shrink);
                    for score in &mut *scores {
                        *score = exp_above(simd, *score, higher);
                        mass = plus(simd, mass, *score);
                    }
                    for sum in &mut *sums {
                        *sum = product(simd, *sum, shrink);
                    }
                    mix(simd, values.skip(begin), scores, sums);
                }
                let y = &mut y[start * stride + head * d..];
                let one = simd.splat_f32s(1.0);
                let share = [simd.div_f32s(one, mass[0]), simd.div_f32s(one, mass[1])];
                unpack(simd, sums, share, y, stride, count);
                let mass: &[f32] = bytemuck::cast_slice(&mass);
                let highest: &[f32] = bytemuck::cast_slice(&highest);
                for lane in 0..count {
                    lse[(start + lane) * s.heads + head] = highest[lane] + mass[lane].ln();
                }
            }
        }
    }
}

/// See [`crate::kernels::attention_bwd::AttentionDelta`].
pub fn delta(s: &AttentionShape, y: &[f32], dy: &[f32], delta: &mut [f32]) {
    delta.par_chunks_mut(s.heads * s.lq).enumerate().for_each(|(b, delta)| {
        super::math::vectorised(
            #[inline(always)]
            || {
                for (head, delta) in delta.chunks_exact_mut(s.lq).enumerate() {
                    for (i, delta) in delta.iter_mut().enumerate() {
                        let at = s.query(b, head, i);
                        let (y, dy) = (&y[at..at + s.d], &dy[at..at + s.d]);
                        *delta = super::reduce::sum2(y, dy, |y, dy| y * dy);
                    }
                }
            },
        );
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
