//! The nearest code of a codebook, by |e|^2 - 2 z.e: |z|^2 is the same for every code. The scores,
//! n x k of them, exist only in registers.

use super::cpu::nearest::{FAR, Problem, SHORT};
use super::variant::Variant;
use super::{
    Bind, Caps, Case, Const, Cost, Fill, Io, Kernel, Needs, Real, SOFTWARE_ROUNDS, flag, grid_1d,
    int, wrong_binds,
};
use crate::naive_forms;
use std::sync::Arc;

/// idx = argmin_k |e_k|^2 - 2 z.e_k, the lowest index winning ties; d2 = |z - e_idx|^2, infinite
/// where it overflows f32; margin = second best - best of the criterion: by how much the choice was
/// made, 3e38 with no second. A row with a NaN gives index 0 and a NaN distance; a code with a NaN
/// or with |e|^2 of 3e38 or more is never chosen, unless it is code 0 and no other can be.
///
/// With `cosine` rows and codes are compared by direction: z and e stand for z / |z| and e / |e|
/// everywhere, and the criterion is -2 z.e, as all norms are 1. Lengths below 1e-12 count as it, so
/// that a zero vector stays zero: every code is equally far from it, and the first is chosen; a zero
/// code counts as orthogonal to every row. A row whose |z|^2 overflows f32 is taken for zero, its
/// index being that of any code.
///
/// Bindings: z [n, d], codebook [k, d], idx u32 [n], d2 [n], and margin [n] where it is asked for.
#[derive(Debug, Clone)]
pub struct NearestCode {
    pub n: usize,
    pub k: usize,
    pub d: usize,
    /// Compare directions.
    pub cosine: bool,
    /// Tell the margin too, at some cost.
    pub margin: bool,
}

/// The bindings by name.
struct Binds<'a, T> {
    z: &'a [T],
    codebook: &'a [T],
    idx: &'a mut [u32],
    d2: &'a mut [T],
    margin: Option<&'a mut [T]>,
}

/// Codes of a workgroup's tile.
const CODES: usize = 64;

/// Rows of an invocation, codes it loads at a time, and whether its rows stay in registers.
struct SubgroupSizes {
    rows: usize,
    groups: usize,
    hoist: bool,
}

impl NearestCode {
    /// By distance and without the margin.
    pub fn new(n: usize, k: usize, d: usize) -> Self {
        NearestCode { n, k, d, cosine: false, margin: false }
    }

    /// Whether the shaders read vec4s.
    fn vec4(&self) -> bool {
        self.d.is_multiple_of(4)
    }

    /// Channels staged in workgroup memory at a time: at most 16, in equal parts of whole loads.
    fn chunk(&self) -> usize {
        let chunk = self.d.div_ceil(self.d.div_ceil(16));
        if self.vec4() { chunk.next_multiple_of(4) } else { chunk }
    }

    /// Constants of the baseline's shader, with 4 `row_quads` rows x 4 `code_quads` codes of the
    /// 64 x 64 scores in the registers of an invocation.
    fn tile_consts(&self, row_quads: usize, code_quads: usize) -> Vec<Const> {
        vec![
            flag("VEC4", self.vec4()),
            int("D", self.d),
            int("CHUNK", self.chunk()),
            int("ROW_QUADS", row_quads),
            int("CODE_QUADS", code_quads),
            flag("COSINE", self.cosine),
            flag("MARGIN", self.margin),
        ]
    }

    fn by_tile(&self, row_quads: usize, code_quads: usize) -> Arc<dyn Kernel> {
        Variant {
            kernel: self.clone(),
            name: format!("64x64 {}x{}", 4 * row_quads, 4 * code_quads),
            wgsl: None,
            needs: Needs::default(),
            consts: self.tile_consts(row_quads, code_quads),
            dims: self.dims(),
            grid: self.grid(),
        }
        .arc()
    }

    /// For GPUs: `rows` of 8 components or less in the registers of an invocation.
    fn by_short_rows(&self, rows: usize) -> Arc<dyn Kernel> {
        let mut consts = self.row_consts();
        consts.push(int("ROWS", rows));
        Variant {
            kernel: self.clone(),
            name: format!("short rows, {rows} each"),
            wgsl: Some((
                "nearest_code_short",
                include_str!("../../shaders/nearest_code_short.wgsl"),
            )),
            needs: Needs::default(),
            consts,
            dims: self.dims(),
            grid: grid_1d(self.n, 64 * rows),
        }
        .arc()
    }

    /// Constants of `shaders/lib/nearest_rows.wgsl`.
    fn row_consts(&self) -> Vec<Const> {
        vec![
            int("D", self.d),
            int("D4", self.d.div_ceil(4)),
            flag("VEC4", self.vec4()),
            flag("COSINE", self.cosine),
            flag("MARGIN", self.margin),
        ]
    }

    /// Short rows stay in registers, as many as fit; of long ones a tile of scores does.
    fn subgroup_sizes(&self) -> SubgroupSizes {
        let (rows, groups, hoist) = match self.d {
            0..=16 => (4, 2, true),
            17..=32 => (4, 1, true),
            33..=64 => (2, 1, true),
            _ => (4, 4, false),
        };
        SubgroupSizes { rows, groups, hoist }
    }

    /// Rounds of its loops.
    fn subgroup_rounds(&self, lanes: usize) -> usize {
        let SubgroupSizes { groups, hoist, .. } = self.subgroup_sizes();
        self.k.div_ceil(lanes * groups) * if hoist { 1 } else { 1 + self.d.div_ceil(4) }
    }

    fn by_subgroup(&self, lanes: usize) -> Arc<dyn Kernel> {
        let SubgroupSizes { rows, groups, hoist } = self.subgroup_sizes();
        let mut consts = self.row_consts();
        consts.extend([
            int("WG", lanes),
            int("ROWS", rows),
            int("GROUPS", groups),
            flag("HOIST", hoist),
        ]);
        Variant {
            kernel: self.clone(),
            name: format!("subgroup of {lanes}, {}x{}", lanes * rows, lanes * groups),
            wgsl: Some((
                "nearest_code_subgroup",
                include_str!("../../shaders/nearest_code_subgroup.wgsl"),
            )),
            needs: Needs { subgroups: true, ..Needs::default() },
            consts,
            dims: self.dims(),
            grid: grid_1d(self.n, lanes * rows),
        }
        .arc()
    }

    fn binds<'a, T>(&self, io: &'a mut Io<'_, T>) -> Binds<'a, T> {
        let [Bind::In(z), Bind::In(codebook), Bind::OutU(idx), Bind::Out(d2), margin, ..] =
            &mut io.binds
        else {
            wrong_binds(self.name())
        };
        let margin = match margin {
            Bind::Out(margin) if self.margin => Some(&mut **margin),
            Bind::None if !self.margin => None,
            _ => wrong_binds(self.name()),
        };
        Binds { z, codebook, idx, d2, margin }
    }

    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let Binds { z, codebook, idx, d2, mut margin } = self.binds(io);
        let (far, overflows) = (T::of(FAR.into()), |x: T| x.value() > f32::MAX.into());
        let square = |x: &[T]| x.iter().fold(T::zero(), |sum, &x| sum + x * x);
        // 1, or the factor to unit length.
        let scale = |x: &[T]| match square(x) {
            _ if !self.cosine => T::one(),
            squared if overflows(squared) => T::zero(),
            squared => T::one() / squared.sqrt().maximum(T::of(SHORT.into())),
        };
        for (row, z) in z.chunks(self.d).enumerate() {
            let (mut best, mut second, mut winner) = (far, far, 0);
            let of_z = scale(z);
            for (code, e) in codebook.chunks(self.d).enumerate() {
                let norm = square(e);
                let dot = z.iter().zip(e).fold(T::zero(), |sum, (&z, &e)| sum + z * e);
                let score = match self.cosine {
                    true => T::of(-2.0) * dot * of_z * scale(e),
                    false => norm - T::of(2.0) * dot,
                };
                if norm < far && score < best {
                    (best, second, winner) = (score, best, code);
                } else if norm < far && score < second {
                    second = score;
                }
            }
            let e = &codebook[winner * self.d..][..self.d];
            let of_e = scale(e);
            let mut distance = T::zero();
            for (&z, &e) in z.iter().zip(e) {
                let difference = z * of_z - e * of_e;
                distance += difference * difference;
            }
            idx[row] = winner as u32;
            d2[row] = if overflows(distance) { T::of(f64::INFINITY) } else { distance };
            if let Some(margin) = &mut margin {
                margin[row] = if second < far { second - best } else { far };
            }
        }
    }
}

/// What one invocation of the shader holds in registers: 8 rows x 4 codes, so that 3 vec4 reads of
/// workgroup memory feed 8 vec4 multiply-adds.
const ROW_QUADS: usize = 2;
const CODE_QUADS: usize = 1;

impl Kernel for NearestCode {
    fn name(&self) -> &'static str {
        "nearest_code"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/nearest_code.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        self.tile_consts(ROW_QUADS, CODE_QUADS)
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.n as u32, self.k as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let outputs = if self.margin { 3 } else { 2 };
        [vec![self.n * self.d, self.k * self.d], vec![self.n; outputs]].concat()
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.n, 64)
    }
    fn rounds(&self) -> usize {
        // Drivers unroll the loop over a few channels, and those that stage them.
        let channels = if self.chunk() <= 3 { 1 } else { 2 + self.chunk() };
        self.k.div_ceil(CODES) * self.d.div_ceil(self.chunk()) * channels
    }
    fn variants(&self, caps: &Caps) -> Vec<Arc<dyn Kernel>> {
        // Multiply-adds below which a launch costs more than its work.
        const SMALL: usize = 1 << 13;
        let work = self.n * self.k * self.d;
        if work < SMALL {
            return vec![];
        }
        let ends = |rounds: usize| !caps.software || rounds <= SOFTWARE_ROUNDS;
        let lanes = caps.software_lanes().filter(|&lanes| ends(self.subgroup_rounds(lanes)));
        let mut variants: Vec<_> = lanes.map(|lanes| self.by_subgroup(lanes)).into_iter().collect();
        // A round for every code, and those that stage them.
        if self.d <= 8 && ends(2 * self.k) {
            variants.extend([1, 4].map(|rows| self.by_short_rows(rows)));
        }
        if work >= 16 * SMALL {
            variants.extend([self.by_tile(1, 1), self.by_tile(2, 2)]);
        }
        variants
    }
    fn cost(&self) -> Cost {
        let (n, k, d) = (self.n as u64, self.k as u64, self.d as u64);
        Cost { flops: 2 * n * k * d, bytes: 4 * (n * d + k * d + 2 * n) }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let Binds { z, codebook, idx, d2, margin } = self.binds(io);
        Problem { d: self.d, cosine: self.cosine, z, codebook }.solve(idx, d2, margin);
    }
    naive_forms!();
}

/// Random floats run as near ties: two codes whose scores differ by less than their rounding
/// errors may come out either way. `kernels_tests/quantiser.rs` bounds the loss of such a flip.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    let case = |name: &str, kernel: NearestCode, inputs: [Fill; 2]| {
        let outputs = vec![Fill::Poison; kernel.lens().len() - 2];
        let margin = if kernel.margin { ", margin" } else { "" };
        let cosine = if kernel.cosine { ", cosine" } else { "" };
        let NearestCode { n, k, d, .. } = kernel;
        let name = format!("n={n} k={k} d={d}{name}{cosine}{margin}");
        Case::new(name, kernel, inputs.into_iter().chain(outputs).collect())
    };
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
    for (i, (n, k, d)) in shapes.into_iter().enumerate() {
        for margin in [false, true] {
            let kernel = NearestCode { margin, ..NearestCode::new(n, k, d) };
            // Few distinct points: duplicate codes and equidistant ones abound.
            let ints = [Fill::Ints(-2, 2), Fill::Ints(-2, 2)];
            cases.push(case(" ties", kernel.clone(), ints).exact());
            let cosine = margin ^ (i % 2 == 0);
            let kernel = NearestCode { cosine, ..kernel };
            cases.push(case("", kernel, [Fill::normal(), Fill::normal()]).near_ties());
        }
    }
    for margin in [false, true] {
        let kernel = NearestCode { margin, ..NearestCode::new(70, 100, 8) };
        let equal = [Fill::Ints(-2, 2), Fill::Ints(1, 1)];
        cases.push(case(" all codes equal", kernel.clone(), equal).exact());

        // Vectors of 1 and -1 in 4 and 16 dimensions have lengths 2 and 4: all is exact.
        for d in [4, 16] {
            let signs = |n: usize, turn: usize| {
                let sign =
                    |i: usize| if (i * i / 3 + i / turn).is_multiple_of(2) { 1.0 } else { -1.0 };
                Fill::F32((0..n * d).map(sign).collect())
            };
            let kernel = NearestCode { cosine: true, margin, ..NearestCode::new(67, 150, d) };
            cases.push(case(" ties", kernel, [signs(67, 5), signs(150, 7)]).exact());
        }
        // Every third row and every fourth code is zero.
        let holes = |n: usize, every: usize| {
            let component =
                |i: usize| if (i / 8).is_multiple_of(every) { 0.0 } else { (i % 5) as f32 - 1.5 };
            Fill::F32((0..n * 8).map(component).collect())
        };
        let kernel = NearestCode { cosine: true, margin, ..NearestCode::new(50, 40, 8) };
        cases.push(case(" zeros", kernel, [holes(50, 3), holes(40, 4)]).near_ties());

        let mut z: Vec<f32> = (0..40 * 3).map(|i| (i % 11) as f32 - 5.0).collect();
        (z[0], z[10], z[20], z[30]) = (f32::NAN, f32::NAN, 1.0e30, -1.0e30);
        let huge: Vec<f32> = (0..70 * 3)
            .map(|i| if i % 47 == 20 { 1.0e30 } else { (i * 5 % 13) as f32 - 6.0 })
            .collect();

        // The product of a row with code 5 or 50 would make up for |e|^2, which f32 still holds but
        // which is past what may be chosen.
        for d in [3, 68] {
            let near = |i: usize| if i.is_multiple_of(d) { 1.0e19 } else { 1.0 };
            let long = |i: usize| [5, 50].contains(&(i / d)) && i.is_multiple_of(d);
            let far = |i: usize| if long(i) { 1.79e19 } else { (i * 5 % 13) as f32 - 6.0 };
            let far = [(0..40 * d).map(near).collect(), (0..70 * d).map(far).collect()];
            let kernel = NearestCode { margin, ..NearestCode::new(40, 70, d) };
            cases.push(case(" long codes", kernel, far.map(Fill::F32)).near_ties());
        }

        for cosine in [false, true] {
            let kernel = NearestCode { cosine, margin, ..NearestCode::new(40, 70, 3) };
            let stray = [Fill::F32(z.clone()), Fill::F32(huge.clone())];
            cases.push(case(" NaN and 1e30", kernel, stray).near_ties());
        }
    }
    cases
}
