//! The nearest code of a codebook, by |e|^2 - 2 z.e: |z|^2 is the same for every code. The scores,
//! n x k of them, exist only in registers.

use super::sum_all::lane_sum;
use super::{Bind, Case, Const, Cost, Fill, Io, Kernel, Real, grid_1d, int, wrong_binds};
use crate::naive_forms;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::cell::Cell;

/// No score yet; also the margin where no second code has a finite score.
const FAR: f32 = 3.0e38;

/// idx = argmin_k |e_k|^2 - 2 z.e_k, the lowest index winning ties; d2 = |z - e_idx|^2, infinite
/// where it overflows f32; margin = second best - best of the criterion: by how much the choice was
/// made, 3e38 with no second. A row with a NaN gives index 0 and a NaN distance; a code with a NaN
/// or an overflowing norm is never chosen.
///
/// Bindings: z [n, d], codebook [k, d], idx u32 [n], d2 [n], margin [n].
#[derive(Debug, Clone)]
pub struct NearestCode {
    pub n: usize,
    pub k: usize,
    pub d: usize,
}

impl NearestCode {
    /// Channels staged in workgroup memory at a time: at most 16, in equal parts.
    fn chunk(&self) -> usize {
        self.d.div_ceil(self.d.div_ceil(16))
    }

    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [
            Bind::In(z),
            Bind::In(codebook),
            Bind::OutU(idx),
            Bind::Out(d2),
            Bind::Out(margin),
            ..,
        ] = &mut io.binds
        else {
            wrong_binds(self.name())
        };
        let far = T::of(FAR.into());
        for (row, z) in z.chunks(self.d).enumerate() {
            let (mut best, mut second, mut winner) = (far, far, 0);
            for (code, e) in codebook.chunks(self.d).enumerate() {
                let (mut norm, mut dot) = (T::zero(), T::zero());
                for (&z, &e) in z.iter().zip(e) {
                    norm += e * e;
                    dot += z * e;
                }
                let score = norm - T::of(2.0) * dot;
                if norm.value() > f32::MAX.into() {
                    continue;
                }
                if score < best {
                    (best, second, winner) = (score, best, code);
                } else if score < second {
                    second = score;
                }
            }
            let mut distance = T::zero();
            for (&z, &e) in z.iter().zip(&codebook[winner * self.d..]) {
                distance += (z - e) * (z - e);
            }
            let overflows = distance.value() > f32::MAX.into();
            idx[row] = winner as u32;
            d2[row] = if overflows { T::of(f64::INFINITY) } else { distance };
            margin[row] = if second < far { second - best } else { far };
        }
    }
}

/// What one invocation of the shader holds in registers: 8 rows x 4 codes, so that 3 vec4 reads of
/// workgroup memory feed 8 vec4 multiply-adds.
const ROW_QUADS: usize = 2;
const CODE_QUADS: usize = 1;

/// Rows and vectors of codes whose scores one pass of the cpu form holds in registers: 12
/// accumulators hide the latency of a multiply-add and fit the 16 registers of AVX2.
const ROWS: usize = 6;
const VECTORS: usize = 2;
/// Rows of one parallel task: groups of ROWS that share a block of the codebook in the L1 cache.
const TASK_ROWS: usize = 8 * ROWS;
/// Floats of such a block.
const BLOCK: usize = 4096;

thread_local! {
    /// The packed codebook, kept by the thread that launches.
    static PACKED: Cell<Vec<f32>> = Cell::default();
    /// Rows of a task, transposed, kept by the threads that work.
    static TRANSPOSED: Cell<Vec<[f32; ROWS]>> = Cell::default();
}

/// Codes in one tile of the packed codebook.
struct TileWidth;
impl WithSimd for TileWidth {
    type Output = usize;
    fn with_simd<S: Simd>(self, _: S) -> usize {
        VECTORS * S::F32_LANES
    }
}

/// Tiles of `width` codes: their norms, then for every channel their -2 e. A last tile is filled up
/// with codes at norm FAR, which are never better than no code.
fn pack(codebook: &[f32], d: usize, width: usize, packed: &mut Vec<f32>) {
    let tile = width * (d + 1);
    packed.clear();
    packed.resize((codebook.len() / d).div_ceil(width) * tile, 0.0);
    packed.par_chunks_mut(tile).zip(codebook.par_chunks(width * d)).for_each(|(packed, codes)| {
        let (norms, channels) = packed.split_at_mut(width);
        norms.fill(FAR);
        for (c, e) in codes.chunks(d).enumerate() {
            norms[c] = lane_sum(e, |e| e * e);
            for (column, &e) in channels.chunks_mut(width).zip(e) {
                column[c] = -2.0 * e;
            }
        }
    });
}

/// A task of the cpu form: the nearest codes of a few rows.
struct Search<'a> {
    kernel: &'a NearestCode,
    packed: &'a [f32],
    z: &'a [f32],
    codebook: &'a [f32],
    idx: &'a mut [u32],
    d2: &'a mut [f32],
    margin: &'a mut [f32],
}

/// Running minima of one row, one for every lane: a lane sees its codes in ascending order.
#[derive(Clone, Copy)]
struct Minima<S: Simd> {
    best: S::f32s,
    second: S::f32s,
    /// First code of the vector that held the best.
    index: S::u32s,
}

impl<S: Simd> Minima<S> {
    #[inline(always)]
    fn new(simd: S) -> Self {
        let far = simd.splat_f32s(FAR);
        Minima { best: far, second: far, index: simd.splat_u32s(0) }
    }

    /// Takes in the scores of codes `first..`; `<` keeps the earlier code, and a NaN is never less.
    #[inline(always)]
    fn keep(&mut self, simd: S, score: S::f32s, first: S::u32s) {
        let better = simd.less_than_f32s(score, self.best);
        let loser = simd.select_f32s(better, self.best, score);
        let closer = simd.less_than_f32s(loser, self.second);
        self.second = simd.select_f32s(closer, loser, self.second);
        self.best = simd.select_f32s(better, score, self.best);
        self.index = simd.select_u32s(better, first, self.index);
    }

    /// (index, margin) over the lanes; equal scores go to the lowest index.
    #[inline(always)]
    fn reduce(&self, simd: S) -> (u32, f32) {
        let mut code = self.index;
        for (lane, code) in lanes_mut(&mut code).iter_mut().enumerate() {
            *code += lane as u32;
        }
        let best = simd.reduce_min_f32s(self.best);
        let holds_best = simd.equal_f32s(self.best, simd.splat_f32s(best));
        let mut candidates = simd.select_u32s(holds_best, code, simd.splat_u32s(u32::MAX));
        let index = lanes_mut(&mut candidates).iter().fold(u32::MAX, |a, &b| a.min(b));
        // The runner-up is another lane's best, or the second of the winner's lane.
        let winner = simd.equal_u32s(code, simd.splat_u32s(index));
        let second = simd.reduce_min_f32s(simd.select_f32s(winner, self.second, self.best));
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
fn scores<S: Simd>(simd: S, tile: &[S::f32s], rows: &[[f32; ROWS]]) -> [[S::f32s; VECTORS]; ROWS] {
    let (tile, _) = tile.as_chunks::<VECTORS>();
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

#[inline(always)]
fn squared_distance<S: Simd>(simd: S, z: &[f32], e: &[f32]) -> f32 {
    let mut sum = simd.splat_f32s(0.0);
    let mut add = |z: S::f32s, e: S::f32s| {
        let difference = simd.sub_f32s(z, e);
        sum = simd.mul_add_e_f32s(difference, difference, sum);
    };
    let ((zs, z_rest), (es, e_rest)) = (S::as_simd_f32s(z), S::as_simd_f32s(e));
    zs.iter().zip(es).for_each(|(&z, &e)| add(z, e));
    add(simd.partial_load_f32s(z_rest), simd.partial_load_f32s(e_rest));
    simd.reduce_sum_f32s(sum)
}

impl WithSimd for Search<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (n, d) = (self.idx.len(), self.kernel.d);
        let groups = n.div_ceil(ROWS);
        let mut rows = TRANSPOSED.take();
        rows.clear();
        rows.resize(groups * d, [0.0; ROWS]);
        for (i, z) in self.z.chunks_exact(d).enumerate() {
            for (column, &z) in rows[i / ROWS * d..].iter_mut().zip(z) {
                column[i % ROWS] = z;
            }
        }

        let width = VECTORS * S::F32_LANES;
        let tile = width * (d + 1);
        let block = (BLOCK / tile).max(1);
        let mut minima = [[Minima::new(simd); ROWS]; TASK_ROWS / ROWS];
        for (b, tiles) in self.packed.chunks(block * tile).enumerate() {
            for (minima, rows) in minima.iter_mut().zip(rows.chunks_exact(d)) {
                for (t, tile) in tiles.chunks_exact(tile).enumerate() {
                    let scores = scores(simd, S::as_simd_f32s(tile).0, rows);
                    let code = ((b * block + t) * width) as u32;
                    for (v, first) in (code..).step_by(S::F32_LANES).take(VECTORS).enumerate() {
                        let first = simd.splat_u32s(first);
                        for (minima, scores) in minima.iter_mut().zip(&scores) {
                            minima.keep(simd, scores[v], first);
                        }
                    }
                }
            }
        }
        TRANSPOSED.set(rows);

        let outputs = self.idx.iter_mut().zip(self.d2).zip(self.margin);
        let winners = outputs.zip(minima.as_flattened()).zip(self.z.chunks_exact(d));
        for ((((idx, d2), margin), minima), z) in winners {
            (*idx, *margin) = minima.reduce(simd);
            *d2 = squared_distance(simd, z, &self.codebook[*idx as usize * d..][..d]);
        }
    }
}

impl Kernel for NearestCode {
    fn name(&self) -> &'static str {
        "nearest_code"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/nearest_code.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![
            int("D", self.d),
            int("CHUNK", self.chunk()),
            int("ROW_QUADS", ROW_QUADS),
            int("CODE_QUADS", CODE_QUADS),
        ]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.n as u32, self.k as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.n * self.d, self.k * self.d, self.n, self.n, self.n]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.n, 64)
    }
    fn cost(&self) -> Cost {
        let (n, k, d) = (self.n as u64, self.k as u64, self.d as u64);
        Cost { flops: 2 * n * k * d, bytes: 4 * (n * d + k * d + 3 * n) }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [
            Bind::In(z),
            Bind::In(codebook),
            Bind::OutU(idx),
            Bind::Out(d2),
            Bind::Out(margin),
            ..,
        ] = &mut io.binds
        else {
            wrong_binds(self.name())
        };
        let arch = pulp::Arch::new();
        let mut packed = PACKED.take();
        pack(codebook, self.d, arch.dispatch(TileWidth), &mut packed);
        let outputs = idx.par_chunks_mut(TASK_ROWS).zip(d2.par_chunks_mut(TASK_ROWS));
        let outputs = outputs.zip(margin.par_chunks_mut(TASK_ROWS));
        outputs.zip(z.par_chunks(TASK_ROWS * self.d)).for_each(|(((idx, d2), margin), z)| {
            let packed = &packed[..];
            arch.dispatch(Search { kernel: self, packed, z, codebook, idx, d2, margin });
        });
        PACKED.set(packed);
    }
    naive_forms!();
}

/// Random floats run as near ties: two codes whose scores differ by less than their rounding
/// errors may come out either way. `kernels_tests/quantiser.rs` bounds the loss of such a flip.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    let out = || vec![Fill::Poison; 3];
    let with = |inputs: [Fill; 2]| inputs.into_iter().chain(out()).collect::<Vec<_>>();
    let shapes = [
        (1, 1, 2),
        (63, 47, 3),
        (64, 256, 8),
        (65, 1000, 41),
        (130, 65, 64),
        (41, 64, 3),
        (50, 1, 8),
        (7, 129, 200),
    ];
    for (n, k, d) in shapes {
        let kernel = NearestCode { n, k, d };
        // Few distinct points: duplicate codes and equidistant ones abound.
        let name = format!("n={n} k={k} d={d}");
        let ints = with([Fill::Ints(-2, 2), Fill::Ints(-2, 2)]);
        cases.push(Case::new(format!("{name}, ties"), kernel.clone(), ints).exact());
        let normal = with([Fill::normal(), Fill::normal()]);
        cases.push(Case::new(name, kernel, normal).near_ties());
    }
    let equal = with([Fill::Ints(-2, 2), Fill::Ints(1, 1)]);
    cases.push(Case::new("all codes equal", NearestCode { n: 70, k: 100, d: 8 }, equal).exact());

    let mut z: Vec<f32> = (0..40 * 3).map(|i| (i % 11) as f32 - 5.0).collect();
    (z[0], z[10], z[20], z[30]) = (f32::NAN, f32::NAN, 1.0e30, -1.0e30);
    let huge: Vec<f32> = (0..70 * 3)
        .map(|i| if i % 47 == 20 { 1.0e30 } else { (i * 5 % 13) as f32 - 6.0 })
        .collect();
    let stray = with([Fill::F32(z), Fill::F32(huge)]);
    let kernel = NearestCode { n: 40, k: 70, d: 3 };
    cases.push(Case::new("NaN and 1e30", kernel, stray).near_ties());
    cases
}
