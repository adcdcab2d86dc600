//! Products of a left operand that is read in place and a packed right one, on one thread: tiles
//! over rows and columns, blocks of summands small enough that their panel stays in the cache.

use super::math::vectorised;
use super::panels::{Panel, Panels};
use super::tile::{self, Sums, add_columns, add_dots, add_rows, load, store};
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
    /// In the layout of [`super::panels::Layout::for_rows`].
    pub b: Panels<'a>,
    pub c: &'a mut [f32],
    pub c_rows: &'a [usize],
    pub accumulate: bool,
}

impl RowProduct<'_> {
    pub fn run(self) {
        self.b.layout.arch.dispatch(self);
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
                    let last = a_rows.len() - 1;
                    let mut sums: Sums<S, MR, NV> = [[simd.splat_f32s(0.0); NV]; MR];
                    if !fresh {
                        for i in 0..MR {
                            let row = c_rows[i.min(last)] + panel.first;
                            sums[i] = load(simd, &self.c[row..][..panel.columns]);
                        }
                    }
                    for s in s0..(s0 + together).min(self.segments) {
                        let offset = s * self.segment_stride + k0;
                        let mut starts = [0; MR];
                        for i in 0..MR {
                            starts[i] = a_rows[i.min(last)] + offset;
                        }
                        let b = &panel.data[(s * self.segment_len + k0) * width..];
                        sums = add_rows(simd, sums, self.a, &starts, len, b);
                    }
                    for (i, sums) in sums.into_iter().enumerate() {
                        if let Some(row) = c_rows.get(i) {
                            let row = &mut self.c[row + panel.first..][..panel.columns];
                            store(simd, row, sums);
                        }
                    }
                }
            }
        }
    }

    /// Few columns: each element of c is a scalar product, vectorised over the summands.
    #[inline(always)]
    fn dots<S: Simd, const MR: usize>(&mut self, simd: S) {
        let k = self.segments * self.segment_len;
        for (a_rows, c_rows) in self.a_rows.chunks(MR).zip(self.c_rows.chunks(MR)) {
            let last = a_rows.len() - 1;
            for (j, b) in self.b.data.chunks_exact(k).enumerate() {
                let mut sums = [simd.splat_f32s(0.0); MR];
                for (s, b) in b.chunks_exact(self.segment_len).enumerate() {
                    let offset = s * self.segment_stride;
                    let mut starts = [0; MR];
                    for i in 0..MR {
                        starts[i] = a_rows[i.min(last)] + offset;
                    }
                    sums = add_dots::<S, MR>(simd, sums, self.a, &starts, b);
                }
                for (i, sum) in sums.into_iter().enumerate() {
                    if let Some(row) = c_rows.get(i) {
                        let (c, sum) = (&mut self.c[row + j], simd.reduce_sum_f32s(sum));
                        *c = if self.accumulate { *c + sum } else { sum };
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
        if self.b.layout.is_narrow() {
            return self.dots::<S, 8>(simd);
        }
        for panel in self.b.iter() {
            if tile::max_vectors::<S>() == 4 {
                match panel.vectors {
                    1 => self.panel::<S, 8, 1>(simd, panel),
                    2 => self.panel::<S, 8, 2>(simd, panel),
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

/// The right operand of a [`ColumnProduct`].
#[derive(Debug, Clone, Copy)]
pub enum Right<'a> {
    Packed(Panels<'a>),
    /// Rows of `n` floats every `pitch` floats, which may overlap; `data` goes on for
    /// [`tile::MAX_WIDTH`] floats after the last row, so that whole vectors can be read.
    Strided {
        arch: Arch,
        data: &'a [f32],
        pitch: usize,
        n: usize,
    },
}

/// `c[i] (+)= sum_k a[k][i] b[k]`: a transposed left operand, given by runs of columns. Row `i` of
/// the output starts at `c[c_rows[i]]`.
pub struct ColumnProduct<'a> {
    pub a: &'a [f32],
    pub runs: &'a [Run],
    pub stride: usize,
    pub b: Right<'a>,
    pub c: &'a mut [f32],
    pub c_rows: &'a [usize],
    pub accumulate: bool,
}

impl ColumnProduct<'_> {
    pub fn run(self) {
        let arch = match self.b {
            Right::Packed(panels) => panels.layout.arch,
            Right::Strided { arch, .. } => arch,
        };
        arch.dispatch(self);
    }

    /// Rows `from..` in tiles of `MR`, as many as fit; returns the first row left.
    #[inline(always)]
    fn tiles<S: Simd, const MR: usize, const NV: usize>(
        &mut self,
        simd: S,
        panel: Panel<'_>,
        from: usize,
    ) -> usize {
        let mut row = from;
        while row + MR <= self.c_rows.len() {
            let c_rows = &self.c_rows[row..][..MR];
            let mut sums: Sums<S, MR, NV> = [[simd.splat_f32s(0.0); NV]; MR];
            if self.accumulate {
                for i in 0..MR {
                    let c = &self.c[c_rows[i] + panel.first..];
                    sums[i] = load(simd, &c[..panel.columns]);
                }
            }
            for run in self.runs {
                let a = &self.a[run.start + row..];
                let b = &panel.data[run.b * panel.pitch..];
                sums = add_columns(simd, sums, (a, self.stride), (b, panel.pitch), run.len);
            }
            for i in 0..MR {
                let c = &mut self.c[c_rows[i] + panel.first..];
                store(simd, &mut c[..panel.columns], sums[i]);
            }
            row += MR;
        }
        row
    }

    #[inline(always)]
    fn rows<S: Simd, const MR: usize, const NV: usize>(&mut self, simd: S, panel: Panel<'_>) {
        let row = self.tiles::<S, MR, NV>(simd, panel, 0);
        let row = self.tiles::<S, 4, NV>(simd, panel, row);
        let row = self.tiles::<S, 2, NV>(simd, panel, row);
        self.tiles::<S, 1, NV>(simd, panel, row);
    }

    #[inline(always)]
    fn panel<S: Simd>(&mut self, simd: S, panel: Panel<'_>) {
        if tile::max_vectors::<S>() == 4 {
            match panel.vectors {
                1 => self.rows::<S, 12, 1>(simd, panel),
                2 => self.rows::<S, 8, 2>(simd, panel),
                3 => self.rows::<S, 8, 3>(simd, panel),
                _ => self.rows::<S, 6, 4>(simd, panel),
            }
        } else {
            match panel.vectors {
                1 => self.rows::<S, 8, 1>(simd, panel),
                _ => self.rows::<S, 6, 2>(simd, panel),
            }
        }
    }
}

impl WithSimd for ColumnProduct<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let (panels, strided) = match self.b {
            Right::Packed(panels) => (Some(panels.iter()), None),
            Right::Strided { data, pitch, n, .. } => {
                let width = tile::max_vectors::<S>() * S::F32_LANES;
                let panels = (0..n).step_by(width).map(move |first| {
                    let columns = width.min(n - first);
                    let vectors = columns.div_ceil(S::F32_LANES);
                    Panel { first, columns, vectors, pitch, data: &data[first..] }
                });
                (None, Some(panels))
            }
        };
        for panel in panels.into_iter().flatten().chain(strided.into_iter().flatten()) {
            self.panel(simd, panel);
        }
    }
}

/// Adds a bias to every row of a matrix.
pub fn add_to_rows(c: &mut [f32], bias: &[f32]) {
    vectorised(
        #[inline(always)]
        || {
            for row in c.chunks_exact_mut(bias.len()) {
                for (c, b) in row.iter_mut().zip(bias) {
                    *c += b;
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::super::panels::Layout;
    use super::*;

    /// The scalar form, and every vector form that this CPU has.
    fn archs() -> Vec<Arch> {
        let mut archs = vec![Arch::Scalar, Arch::new()];
        #[cfg(target_arch = "x86_64")]
        archs.extend(pulp::x86::V3::try_new().map(Arch::V3));
        archs
    }

    /// Small integers: sums are exact in any order.
    fn ints(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 7 + seed * 5 + i / 11) % 9) as f32 - 4.0).collect()
    }

    /// `c[i][j] + sum over k of a(i, k) b(k, j)`.
    fn reference(
        c: &[f32],
        k: usize,
        n: usize,
        a: impl Fn(usize, usize) -> f32,
        b: impl Fn(usize, usize) -> f32,
    ) -> Vec<f32> {
        let sum =
            |(i, &c): (usize, &f32)| c + (0..k).map(|l| a(i / n, l) * b(l, i % n)).sum::<f32>();
        c.iter().enumerate().map(sum).collect()
    }

    /// Every panel width, row tail, and both layouts, with segments that overlap.
    #[test]
    fn rows_on_every_instruction_set() {
        for arch in archs() {
            for n in [1, 2, 5, 8, 17, 33, 41, 64, 65, 130] {
                for (m, segments, len) in [(1, 1, 1), (5, 3, 7), (13, 1, 600), (9, 2, 300)] {
                    let (stride, k) = (len / 2 + 1, segments * len);
                    let a = ints(m * 3 + (segments - 1) * stride + len, 1);
                    let b = ints(k * n, 2);
                    let layout = Layout::on(arch, k, n).or_narrow();
                    let mut packed = vec![f32::NAN; layout.floats()];
                    layout.pack_rows(&mut packed, |k| &b[k * n..][..n]);
                    let a_rows: Vec<usize> = (0..m).map(|i| 3 * i).collect();
                    let c_rows: Vec<usize> = (0..m).map(|i| n * i).collect();
                    let mut c = ints(m * n, 3);
                    let left = |i: usize, l: usize| a[3 * i + l / len * stride + l % len];
                    let want = reference(&c, k, n, left, |l, j| b[l * n + j]);
                    RowProduct {
                        a: &a,
                        a_rows: &a_rows,
                        segments,
                        segment_stride: stride,
                        segment_len: len,
                        b: Panels { layout, data: &packed },
                        c: &mut c,
                        c_rows: &c_rows,
                        accumulate: true,
                    }
                    .run();
                    assert_eq!(c, want, "{arch:?} {m}x{segments}x{len}x{n}");
                }
            }
        }
    }

    /// Every panel width and row tail, with packed and with strided right operands.
    #[test]
    fn columns_on_every_instruction_set() {
        for arch in archs() {
            for n in [1, 5, 16, 33, 48, 64, 130] {
                for (m, k) in [(1, 2), (7, 20), (23, 9)] {
                    let (a, b) = (ints(k * (m + 2), 1), ints(k * (n + 3) + tile::MAX_WIDTH, 2));
                    let layout = Layout::on(arch, k, n);
                    let mut packed = vec![f32::NAN; layout.floats()];
                    layout.pack_rows(&mut packed, |k| &b[k * (n + 3)..][..n]);
                    let rows: Vec<f32> =
                        (0..k).flat_map(|k| b[k * (n + 3)..][..n].to_vec()).collect();
                    assert!(!layout.is_plain() || packed == rows, "{arch:?} {k}x{n}");
                    let panels = Panels { layout, data: &packed };
                    let strided = Right::Strided { arch, data: &b, pitch: n + 3, n };
                    let c_rows: Vec<usize> = (0..m).map(|i| n * i).collect();
                    // The first column of a by itself, then the rest.
                    let runs =
                        [(0, 1), (1, k - 1)].map(|(b, len)| Run { start: b * (m + 2), b, len });
                    for (right, accumulate) in [(Right::Packed(panels), false), (strided, true)] {
                        let mut c = ints(m * n, 3);
                        let start = if accumulate { c.clone() } else { vec![0.0; m * n] };
                        let left = |i: usize, l: usize| a[l * (m + 2) + i];
                        let want = reference(&start, k, n, left, |l, j| b[l * (n + 3) + j]);
                        ColumnProduct {
                            a: &a,
                            runs: &runs,
                            stride: m + 2,
                            b: right,
                            c: &mut c,
                            c_rows: &c_rows,
                            accumulate,
                        }
                        .run();
                        assert_eq!(c, want, "{arch:?} {m}x{k}x{n} accumulate={accumulate}");
                    }
                }
            }
        }
    }

    #[test]
    fn packing_by_rows_equals_packing_by_columns() {
        for arch in archs() {
            for (k, n, len) in [(6, 5, 3), (40, 41, 20), (34, 130, 34), (18, 1, 6)] {
                let b = ints(k * n, 1);
                let transposed: Vec<f32> = (0..k * n).map(|i| b[i % k * n + i / k]).collect();
                for layout in [Layout::on(arch, k, n), Layout::on(arch, k, n).or_narrow()] {
                    let (mut rows, mut columns) =
                        (vec![f32::NAN; layout.floats()], vec![f32::NAN; layout.floats()]);
                    layout.pack_rows(&mut rows, |k| &b[k * n..][..n]);
                    let segment = |s: usize, j: usize| &transposed[j * k + s * len..][..len];
                    layout.pack_columns(&mut columns, len, segment);
                    assert_eq!(rows, columns, "{layout:?}");
                }
            }
        }
    }
}
