//! The micro-kernels: a tile of `MR` rows by `NV` vectors of columns is summed in registers.
//!
//! The sizes fill the register file without spilling: 6 x 4 accumulators, 4 vectors of b and one
//! broadcast element of a are 29 of AVX-512's (and NEON's) 32 registers, 6 x 2 + 2 + 1 are 15 of
//! AVX2's 16. All loops over `MR` and `NV` have constant bounds, so that the compiler keeps the
//! accumulators in registers.

use pulp::Simd;

/// Vectors of columns in a full tile.
pub const fn max_vectors<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 4 } else { 2 }
}

/// No tile is wider than this.
pub const MAX_WIDTH: usize = 64;

/// Sums of a tile.
pub type Sums<S, const MR: usize, const NV: usize> = [[<S as Simd>::f32s; NV]; MR];

/// `sums[i][j] + sum_k a[i][k] b[k][j]`, where `a[i]` are `MR` slices of length `len`, read one element
/// of each at a time, and `b` is `[len][NV vectors]`.
#[inline(always)]
pub fn add_rows<S: Simd, const MR: usize, const NV: usize>(
    simd: S,
    mut sums: Sums<S, MR, NV>,
    a: &[f32],
    starts: &[usize; MR],
    len: usize,
    b: &[f32],
) -> Sums<S, MR, NV> {
    let width = NV * S::F32_LANES;
    // Slices of one length: their bounds are checked here, not in the loop.
    let mut rows = [&a[..0]; MR];
    for i in 0..MR {
        rows[i] = &a[starts[i]..][..len];
    }
    let b = &b[..len * width];
    for k in 0..len {
        let b = vectors::<S, NV>(simd, &b[k * width..][..width]);
        for i in 0..MR {
            let a = simd.splat_f32s(rows[i][k]);
            for j in 0..NV {
                sums[i][j] = simd.mul_add_e_f32s(a, b[j], sums[i][j]);
            }
        }
    }
    sums
}

/// `sums[i][j] + sum_k a[k][i] b[k][j]` for `len` values of k. Both operands come with the distance
/// from one k to the next: the rows of the tile lie side by side in a, its columns in b.
#[inline(always)]
pub fn add_columns<S: Simd, const MR: usize, const NV: usize>(
    simd: S,
    mut sums: Sums<S, MR, NV>,
    (a, a_stride): (&[f32], usize),
    (b, b_stride): (&[f32], usize),
    len: usize,
) -> Sums<S, MR, NV> {
    for k in 0..len {
        let a = &a[k * a_stride..][..MR];
        let b = vectors::<S, NV>(simd, &b[k * b_stride..][..NV * S::F32_LANES]);
        for i in 0..MR {
            let a = simd.splat_f32s(a[i]);
            for j in 0..NV {
                sums[i][j] = simd.mul_add_e_f32s(a, b[j], sums[i][j]);
            }
        }
    }
    sums
}

/// `sums[i] + a[i] b`, lane by lane, where `a[i]` are `MR` slices as long as `b`: the lanes of the
/// result are still to be added.
#[inline(always)]
pub fn add_dots<S: Simd, const MR: usize>(
    simd: S,
    mut sums: [S::f32s; MR],
    a: &[f32],
    starts: &[usize; MR],
    b: &[f32],
) -> [S::f32s; MR] {
    let (b, b_rest) = S::as_simd_f32s(b);
    let whole = b.len() * S::F32_LANES;
    let mut rows = [S::as_simd_f32s(&a[..0]).0; MR];
    for i in 0..MR {
        rows[i] = S::as_simd_f32s(&a[starts[i]..][..whole]).0;
    }
    for (k, &b) in b.iter().enumerate() {
        for i in 0..MR {
            sums[i] = simd.mul_add_e_f32s(rows[i][k], b, sums[i]);
        }
    }
    if !b_rest.is_empty() {
        let b = simd.partial_load_f32s(b_rest);
        for i in 0..MR {
            let a = simd.partial_load_f32s(&a[starts[i] + whole..][..b_rest.len()]);
            sums[i] = simd.mul_add_e_f32s(a, b, sums[i]);
        }
    }
    sums
}

/// A slice of `NV` whole vectors.
#[inline(always)]
fn vectors<S: Simd, const NV: usize>(simd: S, row: &[f32]) -> [S::f32s; NV] {
    let (whole, _) = S::as_simd_f32s(row);
    let mut values = [simd.splat_f32s(0.0); NV];
    values.copy_from_slice(&whole[..NV]);
    values
}

/// Up to `NV` vectors from `row`; elements past its end are zero.
#[inline(always)]
pub fn load<S: Simd, const NV: usize>(simd: S, row: &[f32]) -> [S::f32s; NV] {
    if row.len() == NV * S::F32_LANES {
        vectors::<S, NV>(simd, row)
    } else {
        let mut values = [simd.splat_f32s(0.0); NV];
        for (value, part) in values.iter_mut().zip(row.chunks(S::F32_LANES)) {
            *value = simd.partial_load_f32s(part);
        }
        values
    }
}

/// Writes as much of `NV` vectors as `row` holds.
#[inline(always)]
pub fn store<S: Simd, const NV: usize>(simd: S, row: &mut [f32], values: [S::f32s; NV]) {
    if row.len() == NV * S::F32_LANES {
        let (whole, _) = S::as_mut_simd_f32s(row);
        whole[..NV].copy_from_slice(&values);
    } else {
        for (part, value) in row.chunks_mut(S::F32_LANES).zip(values) {
            simd.partial_store_f32s(part, value);
        }
    }
}
