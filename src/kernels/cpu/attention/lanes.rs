//! The vector operations of attention on a block of tokens across the lanes:
//!
//! * [`dots`]: score[j] = sum over x of rows[j][x] block[x], one register pair a token j;
//! * [`mix`]: sum[x] += sum over j of rows[j][x] score[j].

use crate::kernels::attention::AttentionShape;
use crate::kernels::cpu::math::exp_lanes;
use pulp::Simd;
use std::cell::RefCell;

/// Tokens (or components) that share the loads of one pass.
const TOGETHER: usize = 4;

/// One value for each token of a block.
pub(super) type Lanes<S> = [<S as Simd>::f32s; 2];

/// A cache line, so that no register load of the scratch straddles two.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub(super) struct Line([f32; 16]);

thread_local! {
    pub(super) static SCRATCH: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// A head of consecutive tokens: token j starts at `data[j * stride]` and has `d` components.
#[derive(Clone, Copy)]
pub(super) struct Tokens<'a> {
    data: &'a [f32],
    stride: usize,
    d: usize,
}

impl<'a> Tokens<'a> {
    /// The tokens of a head from word `at` on.
    #[inline(always)]
    pub(super) fn of(s: &AttentionShape, data: &'a [f32], at: usize) -> Self {
        Tokens { data: &data[at..], stride: s.width(), d: s.d }
    }
    #[inline(always)]
    fn token(&self, j: usize) -> &'a [f32] {
        &self.data[j * self.stride..][..self.d]
    }
    #[inline(always)]
    pub(super) fn skip(&self, j: usize) -> Self {
        Tokens { data: &self.data[j * self.stride..], ..*self }
    }
}

/// out[j] = sum over x of tokens[j][x] block[x].
#[inline(always)]
pub(super) fn dots<S: Simd>(simd: S, tokens: Tokens<'_>, block: &[Lanes<S>], out: &mut [Lanes<S>]) {
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
pub(super) fn mix<S: Simd>(
    simd: S,
    tokens: Tokens<'_>,
    weights: &[Lanes<S>],
    sums: &mut [Lanes<S>],
) {
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
pub(super) fn exp_above<S: Simd>(simd: S, score: Lanes<S>, from: Lanes<S>) -> Lanes<S> {
    let above = [simd.sub_f32s(score[0], from[0]), simd.sub_f32s(score[1], from[1])];
    [exp_lanes(simd, above[0]), exp_lanes(simd, above[1])]
}

/// Lane by lane a b.
#[inline(always)]
pub(super) fn product<S: Simd>(simd: S, a: Lanes<S>, b: Lanes<S>) -> Lanes<S> {
    [simd.mul_f32s(a[0], b[0]), simd.mul_f32s(a[1], b[1])]
}

/// Lane by lane a + b.
#[inline(always)]
pub(super) fn plus<S: Simd>(simd: S, a: Lanes<S>, b: Lanes<S>) -> Lanes<S> {
    [simd.add_f32s(a[0], b[0]), simd.add_f32s(a[1], b[1])]
}

/// Lane by lane p (dp - delta).
#[inline(always)]
pub(super) fn score_gradient<S: Simd>(
    simd: S,
    p: Lanes<S>,
    dp: Lanes<S>,
    delta: Lanes<S>,
) -> Lanes<S> {
    product(simd, p, [simd.sub_f32s(dp[0], delta[0]), simd.sub_f32s(dp[1], delta[1])])
}

/// Lays the components of up to a block of tokens across the lanes, times `factor`; the lanes of
/// missing tokens are zero.
#[inline(always)]
pub(super) fn pack<S: Simd>(tokens: Tokens<'_>, count: usize, factor: f32, block: &mut [Lanes<S>]) {
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
pub(super) fn unpack<S: Simd>(
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
pub(super) fn transpose([a, b, c, d]: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
    [
        [a[0], b[0], c[0], d[0]],
        [a[1], b[1], c[1], d[1]],
        [a[2], b[2], c[2], d[2]],
        [a[3], b[3], c[3], d[3]],
    ]
}

/// Per-token values across the lanes; missing tokens repeat the last.
#[inline(always)]
pub(super) fn lanes_of<S: Simd>(values: &[f32]) -> Lanes<S> {
    let mut lanes: Lanes<S> = bytemuck::Zeroable::zeroed();
    let flat: &mut [f32] = bytemuck::cast_slice_mut(&mut lanes);
    for (i, lane) in flat.iter_mut().enumerate() {
        *lane = values[i.min(values.len() - 1)];
    }
    lanes
}

/// Cuts the scratch into tables of the given numbers of rows.
#[inline(always)]
pub(super) fn tables<S: Simd, const N: usize>(
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
