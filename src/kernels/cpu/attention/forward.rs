//! y = softmax(q k' scale) v by blocks of keys, with a running maximum (Milakov & Gimelshein 2018).

use super::lanes::*;
use super::{SCORES, UNIT};
use crate::kernels::attention::AttentionShape;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::cell::RefCell;

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
