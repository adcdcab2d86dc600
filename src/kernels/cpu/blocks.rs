//! How an output is cut into units of parallel work: by its shape alone, never by the number of
//! threads, so that every sum keeps its order.

use rayon::prelude::*;

/// Floats of a block: with its inputs in the second-level cache, and large beside what is prepared
/// for it (per-channel factors).
pub const BLOCK: usize = 16_384;

/// Rows of `width` floats that make a block of about [`BLOCK`] floats.
pub fn rows_per_block(width: usize) -> usize {
    (BLOCK / width.max(1)).max(1)
}

/// Cuts `data`, samples of `sample` floats, into blocks of at most `block` floats that never cross
/// a sample: yields (sample, index of the block in its sample, block).
pub fn par_blocks_mut(
    data: &mut [f32],
    sample: usize,
    block: usize,
) -> impl ParallelIterator<Item = (usize, usize, &mut [f32])> {
    data.par_chunks_mut(sample).enumerate().flat_map(move |(s, data)| {
        data.par_chunks_mut(block).enumerate().map(move |(b, data)| (s, b, data))
    })
}

/// Width of a row worth a vector loop: rows of few channels are handled several at a time, as one
/// row of `repeated_width(c)` floats, with per-channel factors repeated by [`repeat`].
pub fn repeated_width(c: usize) -> usize {
    c * 256usize.div_ceil(c)
}

/// Repeats the first `c` floats of a row over the rest of it.
#[inline(always)]
pub fn repeat(row: &mut [f32], c: usize) {
    let (first, rest) = row.split_at_mut(c);
    for again in rest.chunks_mut(c) {
        again.copy_from_slice(&first[..again.len()]);
    }
}

/// Adds the repetitions of the first `c` floats of a row onto them.
#[inline(always)]
pub fn fold(row: &mut [f32], c: usize) {
    let (first, rest) = row.split_at_mut(c);
    for again in rest.chunks(c) {
        for (sum, &v) in first.iter_mut().zip(again) {
            *sum += v;
        }
    }
}

/// The first N rows of a scratch table of rows of `width` floats; it grows once.
#[inline(always)]
pub fn table<const N: usize>(scratch: &mut Vec<f32>, width: usize) -> [&mut [f32]; N] {
    if scratch.len() < N * width {
        scratch.resize(N * width, 0.0);
    }
    let mut rows = scratch.chunks_exact_mut(width);
    std::array::from_fn(|_| rows.next().unwrap_or_default())
}
