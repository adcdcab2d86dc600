//! Convolution as a matrix product without im2col: in NHWC one row of a window is contiguous, so a
//! window is `kh` segments of `kw * channels` floats, read where they lie. Borders are handled by
//! copying the source rows of a task, with their zeros, into a scratch buffer; windows of very few
//! floats are gathered whole, so that the product has one long segment instead of many short ones.

use super::panels::{Layout, Panels};
use super::product::RowProduct;
use super::scratch;
use crate::kernels::ConvShape;
use rayon::prelude::*;
use std::ops::Range;

/// Output pixels that are computed together: a multiple of every tile height.
const PIXELS: usize = 192;
/// Windows of at most this many floats are gathered.
const SMALL_WINDOW: usize = 32;

/// `out[o(q), n] (+)= sum over ty, tx, c of source[q step + origin + t, c] b[(ty, tx, c), n]` for all
/// `q` of a grid, where `o(q) = q out_step + out_origin`; the source is zero outside its borders.
/// All pairs are (rows, columns).
#[derive(Debug, Clone, Copy)]
pub struct Correlation {
    pub source: [usize; 2],
    pub channels: usize,
    pub taps: [usize; 2],
    pub step: usize,
    pub origin: [isize; 2],
    pub grid: [usize; 2],
    pub out: [usize; 2],
    pub out_step: usize,
    pub out_origin: [usize; 2],
    pub n: usize,
}

impl Correlation {
    /// The forward convolution.
    pub fn forward(s: &ConvShape) -> Self {
        Correlation {
            source: [s.h, s.w],
            channels: s.cin,
            taps: [s.kh, s.kw],
            step: s.stride,
            origin: [-(s.pad[0] as isize), -(s.pad[2] as isize)],
            grid: [s.oh(), s.ow()],
            out: [s.oh(), s.ow()],
            out_step: 1,
            out_origin: [0, 0],
            n: s.cout,
        }
    }

    /// The data gradient of the pixels with `(iy + top) % stride = phase[0]` and likewise for
    /// columns: a correlation of dy with the taps `phase, phase + stride, ...` in reverse order.
    pub fn data_gradient(s: &ConvShape, phase: [usize; 2]) -> Self {
        let (size, pad, kernel) = ([s.h, s.w], [s.pad[0], s.pad[2]], [s.kh, s.kw]);
        let first = [0, 1].map(|d| (phase[d] + s.stride - pad[d] % s.stride) % s.stride);
        let taps = [0, 1].map(|d| kernel[d].saturating_sub(phase[d]).div_ceil(s.stride));
        Correlation {
            source: [s.oh(), s.ow()],
            channels: s.cout,
            taps,
            step: 1,
            // The t-th tap from the end looks at (iy + top) / stride - t.
            origin: [0, 1]
                .map(|d| ((first[d] + pad[d]) / s.stride) as isize - taps[d] as isize + 1),
            grid: [0, 1].map(|d| size[d].saturating_sub(first[d]).div_ceil(s.stride)),
            out: size,
            out_step: s.stride,
            out_origin: first,
            n: s.cin,
        }
    }

    /// Length of a window: rows of `b`.
    pub fn window(&self) -> usize {
        self.taps[0] * self.taps[1] * self.channels
    }

    pub fn layout(&self) -> Layout {
        Layout::new(self.window(), self.n)
    }

    fn source_len(&self) -> usize {
        self.source[0] * self.source[1] * self.channels
    }

    /// Rows of the grid whose output rows lie in `rows`.
    fn grid_rows(&self, rows: Range<usize>) -> Range<usize> {
        let q = |row: usize| row.saturating_sub(self.out_origin[0]).div_ceil(self.out_step);
        q(rows.start)..q(rows.end).min(self.grid[0])
    }

    /// No window reaches over a border.
    fn inside(&self) -> bool {
        [0, 1].into_iter().all(|d| {
            let last = (self.grid[d].max(1) - 1) * self.step + self.taps[d];
            self.origin[d] >= 0 && self.origin[d] as usize + last <= self.source[d]
        })
    }

    /// Computes the output rows `rows` of one image into `out`, which starts at the first of them.
    fn rows(
        &self,
        source: &[f32],
        b: Panels<'_>,
        out: &mut [f32],
        rows: Range<usize>,
        accumulate: bool,
    ) {
        let grid = self.grid_rows(rows.clone());
        if self.window() == 0 {
            if !accumulate {
                self.clear(out, rows.start, grid);
            }
        } else if self.window() <= SMALL_WINDOW && self.taps != [1, 1] {
            let len = grid.len() * self.grid[1] * self.window();
            scratch::with(len, |windows| {
                self.gather(source, grid.clone(), windows);
                let view = View {
                    data: windows,
                    row: self.grid[1] * self.window(),
                    column: self.window(),
                    segments: 1,
                    segment_stride: 0,
                    segment_len: self.window(),
                };
                self.product(view, b, out, rows.start, grid, accumulate);
            });
        } else if self.inside() {
            let pitch = self.source[1] * self.channels;
            let corner = (grid.start * self.step + self.origin[0] as usize) * pitch
                + self.origin[1] as usize * self.channels;
            let view = self.view(&source[corner..], pitch);
            self.product(view, b, out, rows.start, grid, accumulate);
        } else if !grid.is_empty() {
            let pitch = ((self.grid[1] - 1) * self.step + self.taps[1]) * self.channels;
            let padded_rows = (grid.len() - 1) * self.step + self.taps[0];
            scratch::with(padded_rows * pitch, |padded| {
                for (r, to) in padded.chunks_exact_mut(pitch).enumerate() {
                    let row = (grid.start * self.step + r) as isize + self.origin[0];
                    copy_padded(to, self.source_row(source, row), self.origin[1], self.channels);
                }
                let view = self.view(padded, pitch);
                self.product(view, b, out, rows.start, grid, accumulate);
            });
        }
    }

    fn view<'a>(&self, data: &'a [f32], pitch: usize) -> View<'a> {
        View {
            data,
            row: self.step * pitch,
            column: self.step * self.channels,
            segments: self.taps[0],
            segment_stride: pitch,
            segment_len: self.taps[1] * self.channels,
        }
    }

    /// A row of the source, empty outside.
    fn source_row<'a>(&self, source: &'a [f32], row: isize) -> &'a [f32] {
        let pitch = self.source[1] * self.channels;
        match usize::try_from(row) {
            Ok(row) if row < self.source[0] => &source[row * pitch..][..pitch],
            _ => &[],
        }
    }

    /// Copies the windows of all pixels of some grid rows.
    fn gather(&self, source: &[f32], grid: Range<usize>, windows: &mut [f32]) {
        let len = self.taps[1] * self.channels;
        let pixels = grid.flat_map(|qy| (0..self.grid[1]).map(move |qx| (qy, qx)));
        for ((qy, qx), window) in pixels.zip(windows.chunks_exact_mut(self.window())) {
            let column = (qx * self.step) as isize + self.origin[1];
            for (ty, to) in window.chunks_exact_mut(len).enumerate() {
                let row = (qy * self.step + ty) as isize + self.origin[0];
                copy_padded(to, self.source_row(source, row), column, self.channels);
            }
        }
    }

    /// Zeroes the output pixels of some grid rows.
    fn clear(&self, out: &mut [f32], first_row: usize, grid: Range<usize>) {
        for qy in grid {
            for qx in 0..self.grid[1] {
                let at = self.out_offset(qy, qx, first_row);
                out[at..at + self.n].fill(0.0);
            }
        }
    }

    /// Offset of a grid point's output from the start of row `first_row`.
    fn out_offset(&self, qy: usize, qx: usize, first_row: usize) -> usize {
        let row = qy * self.out_step + self.out_origin[0] - first_row;
        (row * self.out[1] + qx * self.out_step + self.out_origin[1]) * self.n
    }

    fn product(
        &self,
        view: View<'_>,
        b: Panels<'_>,
        out: &mut [f32],
        first_row: usize,
        grid: Range<usize>,
        accumulate: bool,
    ) {
        let (mut a_rows, mut c_rows) = ([0; PIXELS], [0; PIXELS]);
        let pixels = grid.len() * self.grid[1];
        for p0 in (0..pixels).step_by(PIXELS) {
            let count = PIXELS.min(pixels - p0);
            for (i, (a, c)) in a_rows.iter_mut().zip(&mut c_rows).enumerate().take(count) {
                let (qy, qx) = ((p0 + i) / self.grid[1], (p0 + i) % self.grid[1]);
                *a = qy * view.row + qx * view.column;
                *c = self.out_offset(grid.start + qy, qx, first_row);
            }
            RowProduct {
                a: view.data,
                a_rows: &a_rows[..count],
                segments: view.segments,
                segment_stride: view.segment_stride,
                segment_len: view.segment_len,
                b,
                c: out,
                c_rows: &c_rows[..count],
                accumulate,
            }
            .run();
        }
    }
}

/// Windows in memory: where they start and how they continue.
struct View<'a> {
    data: &'a [f32],
    /// From the window of one grid row, or column, to the next.
    row: usize,
    column: usize,
    segments: usize,
    segment_stride: usize,
    segment_len: usize,
}

/// Copies pixels `first..` of a row into `to`, zeros where the row has none.
pub fn copy_padded(to: &mut [f32], row: &[f32], first: isize, channels: usize) {
    let pixels = (row.len() / channels) as isize;
    let count = (to.len() / channels) as isize;
    let from = first.clamp(0, pixels);
    let end = (first + count).clamp(from, pixels);
    let before = (-first).clamp(0, count) as usize * channels;
    let inner = (end - from) as usize * channels;
    to[..before].fill(0.0);
    to[before..before + inner].copy_from_slice(&row[from as usize * channels..][..inner]);
    to[before + inner..].fill(0.0);
}

/// Runs correlations `phase(0..phases)` of a batch of images over disjoint pixels of `out`. Their
/// right operands follow one another in `packed`, in their layouts.
pub fn run(
    phases: usize,
    phase: impl Fn(usize) -> Correlation + Sync,
    packed: &[f32],
    source: &[f32],
    out: &mut [f32],
    accumulate: bool,
    finish: impl Fn(&mut [f32]) + Sync,
) {
    let first = phase(0);
    let pitch = first.out[1] * first.n;
    let image = first.out[0] * pitch;
    // Bands of about PIXELS pixels in each phase.
    let band = (PIXELS.div_ceil(first.grid[1].max(1)) * first.out_step).max(1);
    out.par_chunks_mut(image).zip(source.par_chunks(first.source_len())).for_each(
        |(out, source)| {
            out.par_chunks_mut(band * pitch).enumerate().for_each(|(i, out)| {
                let rows = i * band..i * band + out.len() / pitch;
                let mut rest = packed;
                for correlation in (0..phases).map(&phase) {
                    let layout = correlation.layout();
                    let (data, tail) = rest.split_at(layout.floats());
                    rest = tail;
                    let b = Panels { layout, data };
                    correlation.rows(source, b, out, rows.clone(), accumulate);
                }
                finish(out);
            });
        },
    );
}
