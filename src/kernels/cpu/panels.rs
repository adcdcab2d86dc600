//! The right operand of a product, packed: panels of columns as wide as a tile, each a contiguous
//! `[k][width]` padded with zeros to whole vectors, so that a tile reads it front to back.

use super::tile;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Sizes of a packed `k x n` matrix, and the instructions that they suit.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    pub(super) arch: Arch,
    pub k: usize,
    pub n: usize,
    /// Floats of a vector.
    lanes: usize,
    /// Columns of a panel; the last panel holds the rest, in whole vectors.
    width: usize,
    /// Instead of panels: the columns one after another, each contiguous.
    narrow: bool,
}

struct Lanes;
impl WithSimd for Lanes {
    type Output = (usize, usize);
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Self::Output {
        (S::F32_LANES, S::F32_LANES * tile::max_vectors::<S>())
    }
}

impl Layout {
    pub fn new(k: usize, n: usize) -> Self {
        Layout::on(Arch::new(), k, n)
    }

    /// For given instructions instead of this CPU's widest.
    pub(super) fn on(arch: Arch, k: usize, n: usize) -> Self {
        let (lanes, width) = arch.dispatch(Lanes);
        Layout { arch, k, n, lanes, width, narrow: false }
    }

    /// For a [`super::product::RowProduct`], which multiplies by few columns in another way.
    pub fn for_rows(k: usize, n: usize) -> Self {
        Layout::new(k, n).or_narrow()
    }

    /// Narrow where a tile would fill less than a third of its vectors.
    pub(super) fn or_narrow(self) -> Self {
        Layout { narrow: 3 * self.n < self.lanes && self.k >= self.lanes, ..self }
    }

    pub fn is_narrow(&self) -> bool {
        self.narrow
    }

    /// Floats of the packed matrix.
    pub fn floats(&self) -> usize {
        self.k * if self.narrow { self.n } else { self.n.next_multiple_of(self.lanes) }
    }

    pub fn count(&self) -> usize {
        self.n.div_ceil(self.width)
    }

    /// Whether packing changes nothing: one panel of whole vectors.
    pub fn is_plain(&self) -> bool {
        !self.narrow && self.n <= self.width && self.n.is_multiple_of(self.lanes)
    }

    /// First column, columns and padded width of panel `j`.
    fn columns(&self, j: usize) -> (usize, usize, usize) {
        let first = j * self.width;
        let columns = self.width.min(self.n - first);
        (first, columns, columns.next_multiple_of(self.lanes))
    }

    /// Packs a matrix whose row `k` is `row(k)`.
    pub fn pack_rows<'s>(&self, out: &mut [f32], row: impl Fn(usize) -> &'s [f32] + Sync) {
        if self.narrow {
            for k in 0..self.k {
                let to = out[k..].iter_mut().step_by(self.k);
                to.zip(row(k)).for_each(|(to, &v)| *to = v);
            }
            return;
        }
        self.each_panel(out, |first, columns, width, panel| {
            for (k, to) in panel.chunks_exact_mut(width).enumerate() {
                to[..columns].copy_from_slice(&row(k)[first..first + columns]);
                to[columns..].fill(0.0);
            }
        });
    }

    /// Packs a matrix given by columns, in segments of `len` rows: rows `s len..` of column `j` are
    /// `column(s, j)`.
    pub fn pack_columns<'s>(
        &self,
        out: &mut [f32],
        len: usize,
        column: impl Fn(usize, usize) -> &'s [f32] + Sync,
    ) {
        // As many rows at a time as a cache line of a column holds.
        const ROWS: usize = 16;
        if self.narrow {
            for (i, to) in out[..self.floats()].chunks_exact_mut(len).enumerate() {
                let segments = self.k / len;
                to.copy_from_slice(column(i % segments, i / segments));
            }
            return;
        }
        self.each_panel(out, |first, columns, width, panel| {
            for (s, segment) in panel.chunks_mut(width * len).enumerate() {
                for (block, rows) in segment.chunks_mut(width * ROWS).enumerate() {
                    for j in 0..width {
                        let from = if j < columns {
                            &column(s, first + j)[block * ROWS..]
                        } else {
                            &[0.0; ROWS][..]
                        };
                        for (to, &v) in rows[j..].iter_mut().step_by(width).zip(from) {
                            *to = v;
                        }
                    }
                }
            }
        });
    }

    fn each_panel(&self, out: &mut [f32], pack: impl Fn(usize, usize, usize, &mut [f32]) + Sync) {
        if self.k == 0 {
            return;
        }
        let each = |(j, panel): (usize, &mut [f32])| {
            let (first, columns, width) = self.columns(j);
            pack(first, columns, width, panel);
        };
        let panels = out[..self.floats()].par_chunks_mut(self.k * self.width);
        panels.enumerate().for_each(each);
    }
}

/// A packed matrix.
#[derive(Debug, Clone, Copy)]
pub struct Panels<'a> {
    pub layout: Layout,
    pub data: &'a [f32],
}

/// Some columns of it.
#[derive(Debug, Clone, Copy)]
pub struct Panel<'a> {
    pub first: usize,
    pub columns: usize,
    /// Vectors of a row.
    pub vectors: usize,
    /// Floats from one row to the next.
    pub pitch: usize,
    pub data: &'a [f32],
}

impl<'a> Panels<'a> {
    pub fn iter(self) -> impl Iterator<Item = Panel<'a>> {
        let layout = self.layout;
        (0..layout.count()).map(move |j| {
            let (first, columns, width) = layout.columns(j);
            let data = &self.data[first * layout.k..][..width * layout.k];
            Panel { first, columns, vectors: width / layout.lanes, pitch: width, data }
        })
    }
}
