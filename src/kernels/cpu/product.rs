//! Products of a left operand that is read in place and a packed right one, on one thread: tiles
//! over rows and columns, blocks of summands small enough that their panel stays in the cache.

use super::panels::{Panel, Panels};
use super::tile::{self, Sums, add_columns, add_rows, load, store};
use pulp::{Arch, Simd, WithSimd};

/// Summands of a block.
const BLOCK: usize = 256;

/// `c[i] (+)= a[i] b`, where row `i` of the left operand consists of equal segments: segment `s` is
/// `a[a_rows[i] + s segment_stride..]`, and row `i` of the output starts at `c[c_rows[i]]`.
pub struct RowProduct<'a> {
    pub a: &'a [f32],
    pub a_rows: &'a [usize],
    pub segments: usize,
    pub segment_stride: usize,
    pub segment_len: usize,
    pub b: Panels<'a>,
    pub c: &'a mut [f32],
    pub c_rows: &'a [usize],
    pub accumulate: bool,
}

impl RowProduct<'_> {
    pub fn run(self) {
        Arch::new().dispatch(self);
    }

    #[inline(always)]
    fn panel<S: Simd, const MR: usize, const NV: usize>(&mut self, simd: S, panel: Panel<'_>) {
        let width = NV * S::F32_LANES;
        // A block is either several segments or a piece of one.
        let together = (BLOCK / self.segment_len.max(1)).max(1);
        let pieces = self.segment_len.div_ceil(BLOCK).max(1);
        let piece = self.segment_len.div_ceil(pieces);
        for s0 in (0..self.segments).step_by(together) {
            for k0 in (0..self.segment_len).step_by(piece) {
                let len = piece.min(self.segment_len - k0);
                let fresh = s0 == 0 && k0 == 0 && !self.accumulate;
                for (a_rows, c_rows) in self.a_rows.chunks(MR).zip(self.c_rows.chunks(MR)) {
                    // Missing rows of the last tile repeat its last one and are not stored.
                    let rows: [usize; MR] =
                        std::array::from_fn(|i| a_rows[i.min(a_rows.len() - 1)] + k0);
                    let mut sums: Sums<S, MR, NV> = [[simd.splat_f32s(0.0); NV]; MR];
                    if !fresh {
                        for (sums, &row) in sums.iter_mut().zip(c_rows) {
                            *sums = load(simd, &self.c[row + panel.first..][..panel.columns]);
                        }
                    }
                    for s in s0..(s0 + together).min(self.segments) {
                        let a = rows.map(|row| &self.a[row + s * self.segment_stride..][..len]);
                        let b = &panel.data[(s * self.segment_len + k0) * width..];
                        add_rows(simd, &mut sums, a, len, b);
                    }
                    for (sums, &row) in sums.iter().zip(c_rows) {
                        store(simd, &mut self.c[row + panel.first..][..panel.columns], *sums);
                    }
                }
            }
        }
    }
}

impl WithSimd for RowProduct<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        for panel in self.b.iter() {
            if tile::max_vectors::<S>() == 4 {
                match panel.vectors {
                    1 => self.panel::<S, 12, 1>(simd, panel),
                    2 => self.panel::<S, 12, 2>(simd, panel),
                    3 => self.panel::<S, 8, 3>(simd, panel),
                    _ => self.panel::<S, 6, 4>(simd, panel),
                }
            } else {
                match panel.vectors {
                    1 => self.panel::<S, 8, 1>(simd, panel),
                    _ => self.panel::<S, 6, 2>(simd, panel),
                }
            }
        }
    }
}

/// Consecutive columns of the left operand: `len` of them, `a[start + k stride..]` each, against
/// rows `b..` of the right operand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Run {
    pub start: usize,
    pub b: usize,
    pub len: usize,
}

/// `c[i, j] (+)= sum_k a[k][i] b[k][j]`: a transposed left operand, given by runs of columns. `c` is
/// `[rows, n]`.
pub struct ColumnProduct<'a> {
    pub a: &'a [f32],
    pub runs: &'a [Run],
    pub stride: usize,
    pub rows: usize,
    pub b: Panels<'a>,
    pub c: &'a mut [f32],
    pub accumulate: bool,
}

impl ColumnProduct<'_> {
    pub fn run(self) {
        Arch::new().dispatch(self);
    }

    /// Rows `from..` in tiles of `MR`, as many as fit; returns the first row left.
    #[inline(always)]
    fn tiles<S: Simd, const MR: usize, const NV: usize>(
        &mut self,
        simd: S,
        panel: Panel<'_>,
        from: usize,
    ) -> usize {
        let width = NV * S::F32_LANES;
        let n = self.b.layout.n;
        let mut row = from;
        while row + MR <= self.rows {
            let mut sums: Sums<S, MR, NV> = [[simd.splat_f32s(0.0); NV]; MR];
            if self.accumulate {
                for (i, sums) in sums.iter_mut().enumerate() {
                    *sums = load(simd, &self.c[(row + i) * n + panel.first..][..panel.columns]);
                }
            }
            for run in self.runs {
                let a = &self.a[run.start + row..];
                add_columns(simd, &mut sums, a, self.stride, run.len, &panel.data[run.b * width..]);
            }
            for (i, sums) in sums.iter().enumerate() {
                let at = (row + i) * n + panel.first;
                store(simd, &mut self.c[at..][..panel.columns], *sums);
            }
            row += MR;
        }
        row
    }

    #[inline(always)]
    fn panel<S: Simd, const MR: usize, const NV: usize>(&mut self, simd: S, panel: Panel<'_>) {
        let row = self.tiles::<S, MR, NV>(simd, panel, 0);
        let row = self.tiles::<S, 4, NV>(simd, panel, row);
        let row = self.tiles::<S, 2, NV>(simd, panel, row);
        self.tiles::<S, 1, NV>(simd, panel, row);
    }
}

impl WithSimd for ColumnProduct<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        for panel in self.b.iter() {
            if tile::max_vectors::<S>() == 4 {
                match panel.vectors {
                    1 => self.panel::<S, 12, 1>(simd, panel),
                    2 => self.panel::<S, 12, 2>(simd, panel),
                    3 => self.panel::<S, 8, 3>(simd, panel),
                    _ => self.panel::<S, 6, 4>(simd, panel),
                }
            } else {
                match panel.vectors {
                    1 => self.panel::<S, 8, 1>(simd, panel),
                    _ => self.panel::<S, 6, 2>(simd, panel),
                }
            }
        }
    }
}
