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

/// Sums of a tile.
pub type Sums<S, const MR: usize, const NV: usize> = [[<S as Simd>::f32s; NV]; MR];

/// `sums[i][j] += sum_k a[i][k] b[k][j]` where `a[i]` are slices of equal length, read one element
/// of each row at a time, and `b` is `[k][NV vectors]`.
#[inline(always)]
pub fn add_rows<S: Simd, const MR: usize, const NV: usize>(
    simd: S,
    sums: &mut Sums<S, MR, NV>,
    a: [&[f32]; MR],
    len: usize,
    b: &[f32],
) {
    let a = a.map(|row| &row[..len]);
    let width = NV * S::F32_LANES;
    let b = &b[..len * width];
    for k in 0..len {
        let b = vectors::<S, NV>(&b[k * width..][..width]);
        for i in 0..MR {
            let a = simd.splat_f32s(a[i][k]);
            for j in 0..NV {
                sums[i][j] = simd.mul_add_e_f32s(a, b[j], sums[i][j]);
            }
        }
    }
}

/// `sums[i][j] += sum_k a[k stride + i] b[k][j]` for `len` values of k: the rows of the tile lie side
/// by side in `a`.
#[inline(always)]
pub fn add_columns<S: Simd, const MR: usize, const NV: usize>(
    simd: S,
    sums: &mut Sums<S, MR, NV>,
    a: &[f32],
    stride: usize,
    len: usize,
    b: &[f32],
) {
    let width = NV * S::F32_LANES;
    for k in 0..len {
        let a = &a[k * stride..][..MR];
        let b = vectors::<S, NV>(&b[k * width..][..width]);
        for i in 0..MR {
            let a = simd.splat_f32s(a[i]);
            for j in 0..NV {
                sums[i][j] = simd.mul_add_e_f32s(a, b[j], sums[i][j]);
            }
        }
    }
}

/// A slice of `NV` whole vectors.
#[inline(always)]
fn vectors<S: Simd, const NV: usize>(row: &[f32]) -> [S::f32s; NV] {
    let (whole, _) = S::as_simd_f32s(row);
    std::array::from_fn(|j| whole[j])
}

/// Up to `NV` vectors from `row`; elements past its end are zero.
#[inline(always)]
pub fn load<S: Simd, const NV: usize>(simd: S, row: &[f32]) -> [S::f32s; NV] {
    if row.len() == NV * S::F32_LANES {
        vectors::<S, NV>(row)
    } else {
        std::array::from_fn(|j| {
            let from = (j * S::F32_LANES).min(row.len());
            let to = (from + S::F32_LANES).min(row.len());
            simd.partial_load_f32s(&row[from..to])
        })
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
