//! The nearest code on the CPU: a matrix product of rows and codes whose tiles of scores never leave
//! the registers.
//!
//! A tile is [`ROWS`] rows by a few vectors of codes. With few channels, keeping the minimum costs as
//! much as the scores: there only one minimum and the tile that brought it are kept per row and lane
//! ([`Best`]), and when all codes are seen, the tile that holds the minimum is computed again, by the
//! same multiply-adds, to learn which of its codes it was. With many channels the code itself is kept
//! ([`BestCode`]). Memory: the packed codebook, and the rows of one task a thread.

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

/// Channels from which a minimum is cheap beside its score.
const FEW_CHANNELS: usize = 16;

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
        let arch = Arch::new();
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

/// Running minima of one row, one for every lane.
trait Minima<S: Simd>: Copy {
    fn new(simd: S) -> Self;
    /// Takes in the scores of a tile; tiles come in ascending order. An equal score does not replace
    /// an earlier one, and a NaN none.
    fn keep<const V: usize>(&mut self, simd: S, scores: &[S::f32s; V], tile: u32);
    /// (index, margin) over the lanes, equal scores to the lowest index; `again` computes the scores
    /// of a tile once more.
    fn reduce<const V: usize>(&self, simd: S, again: impl Fn(u32) -> [S::f32s; V]) -> (u32, f32);
}

/// The best score and the tile it came from.
#[derive(Clone, Copy)]
struct Best<S: Simd> {
    score: S::f32s,
    tile: S::u32s,
}

impl<S: Simd> Minima<S> for Best<S> {
    #[inline(always)]
    fn new(simd: S) -> Self {
        Best { score: simd.splat_f32s(FAR), tile: simd.splat_u32s(0) }
    }

    #[inline(always)]
    fn keep<const V: usize>(&mut self, simd: S, scores: &[S::f32s; V], tile: u32) {
        // The running minimum second: x86 returns it where the other is NaN.
        let mut least = self.score;
        for &score in scores {
            least = simd.min_f32s(score, least);
        }
        let better = simd.less_than_f32s(least, self.score);
        self.score = simd.select_f32s(better, least, self.score);
        self.tile = simd.select_u32s(better, simd.splat_u32s(tile), self.tile);
    }

    #[inline(always)]
    fn reduce<const V: usize>(&self, simd: S, again: impl Fn(u32) -> [S::f32s; V]) -> (u32, f32) {
        let least = simd.reduce_min_f32s(self.score);
        // Not so where no code had a score: then the index is 0.
        if least < FAR {
            let least = simd.splat_f32s(least);
            let tile = lowest(simd, simd.equal_f32s(self.score, least), self.tile);
            for (v, score) in again(tile).into_iter().enumerate() {
                if let Some(lane) = first(simd, simd.equal_f32s(score, least)) {
                    return (((tile as usize * V + v) * S::F32_LANES + lane) as u32, FAR);
                }
            }
        }
        (0, FAR)
    }
}

/// The best score and the first code of the vector that held it; for the margin the second best.
#[derive(Clone, Copy)]
struct BestCode<S: Simd, const MARGIN: bool> {
    best: S::f32s,
    second: S::f32s,
    code: S::u32s,
}

impl<S: Simd, const MARGIN: bool> Minima<S> for BestCode<S, MARGIN> {
    #[inline(always)]
    fn new(simd: S) -> Self {
        let far = simd.splat_f32s(FAR);
        BestCode { best: far, second: far, code: simd.splat_u32s(0) }
    }

    #[inline(always)]
    fn keep<const V: usize>(&mut self, simd: S, scores: &[S::f32s; V], tile: u32) {
        for (v, &score) in scores.iter().enumerate() {
            let first = simd.splat_u32s((tile * V as u32 + v as u32) * S::F32_LANES as u32);
            let better = simd.less_than_f32s(score, self.best);
            if MARGIN {
                let loser = simd.select_f32s(better, self.best, score);
                let closer = simd.less_than_f32s(loser, self.second);
                self.second = simd.select_f32s(closer, loser, self.second);
            }
            self.best = simd.select_f32s(better, score, self.best);
            self.code = simd.select_u32s(better, first, self.code);
        }
    }

    #[inline(always)]
    fn reduce<const V: usize>(&self, simd: S, _: impl Fn(u32) -> [S::f32s; V]) -> (u32, f32) {
        let mut code = self.code;
        for (lane, code) in lanes_mut(&mut code).iter_mut().enumerate() {
            *code += lane as u32;
        }
        let best = simd.reduce_min_f32s(self.best);
        let holds_best = simd.equal_f32s(self.best, simd.splat_f32s(best));
        let index = lowest(simd, holds_best, code);
        // The runner-up is another lane's best, or the second of the winner's lane.
        let winner = simd.equal_u32s(code, simd.splat_u32s(index));
        let second = simd.reduce_min_f32s(simd.select_f32s(winner, self.second, self.best));
        (index, if second < FAR { second - best } else { FAR })
    }
}

/// The smallest of the chosen lanes of `values`.
#[inline(always)]
fn lowest<S: Simd>(simd: S, chosen: S::m32s, values: S::u32s) -> u32 {
    let mut values = simd.select_u32s(chosen, values, simd.splat_u32s(u32::MAX));
    lanes_mut(&mut values).iter().fold(u32::MAX, |a, &b| a.min(b))
}

/// The first chosen lane.
#[inline(always)]
fn first<S: Simd>(simd: S, chosen: S::m32s) -> Option<usize> {
    let mut ones = simd.select_u32s(chosen, simd.splat_u32s(1), simd.splat_u32s(0));
    lanes_mut(&mut ones).iter().position(|&one| one == 1)
}

/// The lanes of a vector of u32.
#[inline(always)]
fn lanes_mut<V: bytemuck::Pod>(vector: &mut V) -> &mut [u32] {
    bytemuck::cast_slice_mut(std::slice::from_mut(vector))
}

/// Scores of R rows, given channel by channel, against a tile: norm + sum over channels of
/// z (-2 e).
#[inline(always)]
fn scores<S: Simd, const R: usize, const V: usize>(
    simd: S,
    tile: &[f32],
    rows: impl Iterator<Item = [f32; R]>,
) -> [[S::f32s; V]; R] {
    let (tile, _) = S::as_simd_f32s(tile).0.as_chunks::<V>();
    let mut scores = [tile[0]; R];
    for (e, z) in tile[1..].iter().zip(rows) {
        for (scores, z) in scores.iter_mut().zip(z) {
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
        match (self.margin.is_some(), self.problem.d < FEW_CHANNELS) {
            (true, _) => self.on::<S, BestCode<S, true>>(simd),
            (false, true) => self.on::<S, Best<S>>(simd),
            (false, false) => self.on::<S, BestCode<S, false>>(simd),
        }
    }
}

impl Task<'_> {
    #[inline(always)]
    fn on<S: Simd, M: Minima<S>>(self, simd: S) {
        match vectors::<S>() {
            4 => self.run::<S, M, 4>(simd),
            _ => self.run::<S, M, 2>(simd),
        }
    }

    #[inline(always)]
    fn run<S: Simd, M: Minima<S>, const V: usize>(mut self, simd: S) {
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

        let tile = V * S::F32_LANES * (d + 1);
        let block = (BLOCK / tile).max(1);
        let mut minima = [[M::new(simd); ROWS]; TASK_ROWS / ROWS];
        for (b, tiles) in self.packed.chunks(block * tile).enumerate() {
            for (minima, rows) in minima.iter_mut().zip(rows.chunks_exact(d)) {
                for (t, tile) in tiles.chunks_exact(tile).enumerate() {
                    let scores = scores::<S, ROWS, V>(simd, tile, rows.iter().copied());
                    for (minima, scores) in minima.iter_mut().zip(&scores) {
                        minima.keep(simd, scores, (b * block + t) as u32);
                    }
                }
            }
        }

        for (i, (minima, z)) in minima.as_flattened().iter().zip(self.z.chunks_exact(d)).enumerate()
        {
            let row = &rows[i / ROWS * d..][..d];
            let again = |t: u32| {
                let tile = &self.packed[t as usize * tile..][..tile];
                let [scores] = scores::<S, 1, V>(simd, tile, row.iter().map(|z| [z[i % ROWS]]));
                scores
            };
            let (index, margin) = minima.reduce(simd, again);
            self.idx[i] = index;
            self.d2[i] = self.distance(simd, z, index as usize);
            if let Some(margins) = &mut self.margin {
                margins[i] = margin;
            }
        }
        TRANSPOSED.set(rows);
    }

    #[inline(always)]
    fn scale<S: Simd>(&self, simd: S, x: &[f32]) -> f32 {
        if self.problem.cosine {
            self.problem.scale(sum_squares(simd, x, x, |x, _| x))
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
        sum_squares(simd, z, e, |z, e| {
            simd.sub_f32s(simd.mul_f32s(z, of_z), simd.mul_f32s(e, of_e))
        })
    }
}
