//! The nearest code on the CPU: a matrix product of rows and codes whose tiles of scores never leave
//! the registers.
//!
//! A tile is [`ROWS`] rows by a few vectors of codes; every lane keeps the best score that it saw and
//! the code that brought it. Memory: the packed codebook, and the rows of one task a thread.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::cell::Cell;

/// No score yet; also the margin where no second code has a finite score.
pub const FAR: f32 = 3.0e38;

/// Lengths below it count as it: a zero vector stays zero when it is normalised.
pub const SHORT: f32 = 1.0e-12;

/// Rows whose scores one pass holds in registers. With [`vectors`] of codes: 24 accumulators of 32
/// registers, 12 of 16.
const ROWS: usize = 6;
/// Rows of one parallel task: groups of ROWS that share a block of the codebook in the L1 cache.
const TASK_ROWS: usize = 8 * ROWS;
/// Floats of such a block.
const BLOCK: usize = 4096;

/// Vectors of codes in a tile.
const fn vectors<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 4 } else { 2 }
}

thread_local! {
    /// The packed codebook, kept by the thread that launches.
    static PACKED: Cell<Vec<f32>> = Cell::default();
    /// Rows of a task, transposed, kept by the threads that work.
    static TRANSPOSED: Cell<Vec<[f32; ROWS]>> = Cell::default();
}

/// See [`crate::kernels::nearest_code::NearestCode`], whose fields and bindings these are.
pub struct Problem<'a> {
    pub d: usize,
    pub cosine: bool,
    pub z: &'a [f32],
    pub codebook: &'a [f32],
}

impl Problem<'_> {
    pub fn solve(&self, idx: &mut [u32], d2: &mut [f32], margin: Option<&mut [f32]>) {
        self.solve_on(Arch::new(), idx, d2, margin);
    }

    /// For given instructions instead of this CPU's widest.
    fn solve_on(&self, arch: Arch, idx: &mut [u32], d2: &mut [f32], margin: Option<&mut [f32]>) {
        let mut packed = PACKED.take();
        arch.dispatch(Pack { problem: self, packed: &mut packed });
        let rows = self.z.par_chunks(TASK_ROWS * self.d).zip(idx.par_chunks_mut(TASK_ROWS));
        let rows = rows.zip(d2.par_chunks_mut(TASK_ROWS));
        let search = |z, idx, d2, margin| {
            arch.dispatch(Task { problem: self, packed: &packed, z, idx, d2, margin });
        };
        match margin {
            Some(margin) => rows
                .zip(margin.par_chunks_mut(TASK_ROWS))
                .for_each(|(((z, idx), d2), margin)| search(z, idx, d2, Some(margin))),
            None => rows.for_each(|((z, idx), d2)| search(z, idx, d2, None)),
        }
        PACKED.set(packed);
    }

    /// 1, or where rows are compared by direction 1 / |x|; 0 where |x|^2 overflows.
    #[inline(always)]
    fn scale(&self, squared_length: f32) -> f32 {
        if self.cosine { 1.0 / squared_length.sqrt().max(SHORT) } else { 1.0 }
    }
}

/// Tiles of codes: their norms, then for every channel their -2 e. A last tile is filled up with
/// codes at norm FAR, which are never better than no code; so are codes with a NaN or an overflow.
struct Pack<'a> {
    problem: &'a Problem<'a>,
    packed: &'a mut Vec<f32>,
}

impl WithSimd for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Pack { problem, packed } = self;
        let (d, width) = (problem.d, vectors::<S>() * S::F32_LANES);
        let tile = width * (d + 1);
        packed.resize((problem.codebook.len() / d).div_ceil(width) * tile, 0.0);
        let tiles = packed.par_chunks_mut(tile).zip(problem.codebook.par_chunks(width * d));
        tiles.for_each(|(tile, codes)| {
            tile.fill(0.0);
            let (norms, channels) = tile.split_at_mut(width);
            norms.fill(FAR);
            for (c, e) in codes.chunks_exact(d).enumerate() {
                let norm = e.iter().fold(0.0, |sum, e| sum + e * e);
                if norm < FAR {
                    // Of unit length, all alike.
                    norms[c] = if problem.cosine { 0.0 } else { norm };
                    let factor = -2.0 * problem.scale(norm);
                    for (column, &e) in channels.chunks_exact_mut(width).zip(e) {
                        column[c] = factor * e;
                    }
                }
            }
        });
    }
}

/// The best score of every lane for one row, the first code of the vector that held it, and for the
/// margin the second best.
#[derive(Clone, Copy)]
struct Best<S: Simd, const MARGIN: bool> {
    score: S::f32s,
    second: S::f32s,
    code: S::u32s,
}

impl<S: Simd, const MARGIN: bool> Best<S, MARGIN> {
    #[inline(always)]
    fn new(simd: S) -> Self {
        let far = simd.splat_f32s(FAR);
        Best { score: far, second: far, code: simd.splat_u32s(0) }
    }

    /// Takes in the scores of codes `first..`. A lane sees its codes in ascending order: `<` keeps the
    /// earlier one, and a NaN is never less.
    #[inline(always)]
    fn keep(&mut self, simd: S, score: S::f32s, first: S::u32s) {
        let better = simd.less_than_f32s(score, self.score);
        if MARGIN {
            let loser = simd.select_f32s(better, self.score, score);
            let closer = simd.less_than_f32s(loser, self.second);
            self.second = simd.select_f32s(closer, loser, self.second);
        }
        self.score = simd.select_f32s(better, score, self.score);
        self.code = simd.select_u32s(better, first, self.code);
    }

    /// (index, margin) over the lanes; equal scores go to the lowest index.
    #[inline(always)]
    fn reduce(&self, simd: S) -> (u32, f32) {
        let mut code = self.code;
        for (lane, code) in lanes_mut(&mut code).iter_mut().enumerate() {
            *code += lane as u32;
        }
        let best = simd.reduce_min_f32s(self.score);
        let holds_best = simd.equal_f32s(self.score, simd.splat_f32s(best));
        let mut candidates = simd.select_u32s(holds_best, code, simd.splat_u32s(u32::MAX));
        let index = lanes_mut(&mut candidates).iter().fold(u32::MAX, |a, &b| a.min(b));
        // The runner-up is another lane's best, or the second of the winner's lane.
        let winner = simd.equal_u32s(code, simd.splat_u32s(index));
        let second = simd.reduce_min_f32s(simd.select_f32s(winner, self.second, self.score));
        (index, if second < FAR { second - best } else { FAR })
    }
}

/// The lanes of a vector of u32.
#[inline(always)]
fn lanes_mut<V: bytemuck::Pod>(vector: &mut V) -> &mut [u32] {
    bytemuck::cast_slice_mut(std::slice::from_mut(vector))
}

/// Scores of ROWS rows against a tile: norm + sum over channels of z (-2 e).
#[inline(always)]
fn scores<S: Simd, const V: usize>(
    simd: S,
    tile: &[f32],
    rows: &[[f32; ROWS]],
) -> [[S::f32s; V]; ROWS] {
    let (tile, _) = S::as_simd_f32s(tile).0.as_chunks::<V>();
    let mut scores = [tile[0]; ROWS];
    for (e, z) in tile[1..].iter().zip(rows) {
        for (scores, &z) in scores.iter_mut().zip(z) {
            let z = simd.splat_f32s(z);
            for (score, &e) in scores.iter_mut().zip(e) {
                *score = simd.mul_add_e_f32s(z, e, *score);
            }
        }
    }
    scores
}

/// Sum of f(z, e)^2 over two slices of one length.
#[inline(always)]
fn sum_squares<S: Simd>(
    simd: S,
    z: &[f32],
    e: &[f32],
    f: impl Fn(S::f32s, S::f32s) -> S::f32s,
) -> f32 {
    let mut sum = simd.splat_f32s(0.0);
    let ((zs, z_rest), (es, e_rest)) = (S::as_simd_f32s(z), S::as_simd_f32s(e));
    for (&z, &e) in zs.iter().zip(es) {
        let term = f(z, e);
        sum = simd.mul_add_e_f32s(term, term, sum);
    }
    let term = f(simd.partial_load_f32s(z_rest), simd.partial_load_f32s(e_rest));
    simd.reduce_sum_f32s(simd.mul_add_e_f32s(term, term, sum))
}

/// The nearest codes of a few rows.
struct Task<'a> {
    problem: &'a Problem<'a>,
    packed: &'a [f32],
    z: &'a [f32],
    idx: &'a mut [u32],
    d2: &'a mut [f32],
    margin: Option<&'a mut [f32]>,
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match (self.margin.is_some(), vectors::<S>()) {
            (false, 4) => self.run::<S, 4, false>(simd),
            (false, _) => self.run::<S, 2, false>(simd),
            (true, 4) => self.run::<S, 4, true>(simd),
            (true, _) => self.run::<S, 2, true>(simd),
        }
    }
}

impl Task<'_> {
    #[inline(always)]
    fn run<S: Simd, const V: usize, const MARGIN: bool>(mut self, simd: S) {
        let d = self.problem.d;
        let mut rows = TRANSPOSED.take();
        rows.clear();
        rows.resize(self.idx.len().div_ceil(ROWS) * d, [0.0; ROWS]);
        for (i, z) in self.z.chunks_exact(d).enumerate() {
            let scale = self.scale(simd, z);
            for (column, &z) in rows[i / ROWS * d..].iter_mut().zip(z) {
                column[i % ROWS] = scale * z;
            }
        }

        let width = V * S::F32_LANES;
        let tile = width * (d + 1);
        let block = (BLOCK / tile).max(1);
        let mut best = [[Best::<S, MARGIN>::new(simd); ROWS]; TASK_ROWS / ROWS];
        for (b, tiles) in self.packed.chunks(block * tile).enumerate() {
            for (best, rows) in best.iter_mut().zip(rows.chunks_exact(d)) {
                for (t, tile) in tiles.chunks_exact(tile).enumerate() {
                    let scores = scores::<S, V>(simd, tile, rows);
                    let code = ((b * block + t) * width) as u32;
                    for (v, first) in (code..).step_by(S::F32_LANES).take(V).enumerate() {
                        let first = simd.splat_u32s(first);
                        for (best, scores) in best.iter_mut().zip(&scores) {
                            best.keep(simd, scores[v], first);
                        }
                    }
                }
            }
        }
        TRANSPOSED.set(rows);

        for (i, (best, z)) in best.as_flattened().iter().zip(self.z.chunks_exact(d)).enumerate() {
            let (index, margin) = best.reduce(simd);
            self.idx[i] = index;
            self.d2[i] = self.distance(simd, z, index as usize);
            if let Some(margins) = &mut self.margin {
                margins[i] = margin;
            }
        }
    }

    #[inline(always)]
    fn scale<S: Simd>(&self, simd: S, x: &[f32]) -> f32 {
        if self.problem.cosine {
            self.problem.scale(sum_squares(
                simd,
                x,
                x,
                #[inline(always)]
                |x, _| x,
            ))
        } else {
            1.0
        }
    }

    /// Squared distance to a code.
    #[inline(always)]
    fn distance<S: Simd>(&self, simd: S, z: &[f32], index: usize) -> f32 {
        let d = self.problem.d;
        let e = &self.problem.codebook[index * d..][..d];
        let (of_z, of_e) = (self.scale(simd, z), self.scale(simd, e));
        let (of_z, of_e) = (simd.splat_f32s(of_z), simd.splat_f32s(of_e));
        sum_squares(
            simd,
            z,
            e,
            #[inline(always)]
            |z, e| simd.sub_f32s(simd.mul_f32s(z, of_z), simd.mul_f32s(e, of_e)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small integers, on which all is exact: the scalar form, every vector form that this CPU has
    /// and a plain search agree, ties included.
    #[test]
    fn all_instructions_agree() {
        let mut archs = vec![Arch::Scalar, Arch::new()];
        #[cfg(target_arch = "x86_64")]
        archs.extend(pulp::x86::V3::try_new().map(Arch::V3));
        for (n, k, d) in [(1, 1, 1), (49, 33, 3), (7, 129, 20)] {
            let ints = |len: usize, seed: usize| -> Vec<f32> {
                (0..len).map(|i| ((i * 7 + seed * 5 + i / 11) % 5) as f32 - 2.0).collect()
            };
            let (z, codebook) = (ints(n * d, 1), ints(k * d, 2));
            let nearest = |z: &[f32]| {
                let distance =
                    |e: &[f32]| z.iter().zip(e).map(|(z, e)| (z - e) * (z - e)).sum::<f32>();
                let all = codebook.chunks(d).map(distance).enumerate();
                all.fold((0, FAR), |a, b| if b.1 < a.1 { b } else { a })
            };
            let want: Vec<_> = z.chunks(d).map(nearest).collect();
            for arch in &archs {
                for with_margin in [false, true] {
                    let (mut idx, mut d2, mut margin) = (vec![9; n], vec![9.0; n], vec![9.0; n]);
                    let problem = Problem { d, cosine: false, z: &z, codebook: &codebook };
                    let margins = with_margin.then_some(&mut margin[..]);
                    problem.solve_on(*arch, &mut idx, &mut d2, margins);
                    let got = idx.iter().map(|&i| i as usize).zip(d2);
                    assert!(got.eq(want.iter().copied()), "{arch:?} n={n} k={k} d={d}");
                }
            }
        }
    }
}
