//! How an output is cut into units of parallel work: by its shape alone, never by the number of
//! threads, so that every sum keeps its order.

use rayon::prelude::*;

/// Floats of a block that stays in the first-level cache beside its inputs.
pub const BLOCK: usize = 4096;

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

/// Per-channel factors repeated until a row is worth vectorising: rows of few channels are handled
/// several at a time, as one row of `repeated_width` floats.
pub fn repeated_width(c: usize) -> usize {
    c * 64usize.div_ceil(c)
}
