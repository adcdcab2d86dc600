//! Convolution as a matrix product without im2col: in NHWC one row of a window is contiguous, so a
//! window is `kh` segments of `kw * channels` floats, read where they lie. Borders are handled by
//! copying the source rows of a task, with their zeros, into a scratch buffer; windows of very few
//! floats are gathered whole, so that the product has one long segment instead of many short ones.

use super::panels::{Layout, Panels};
use super::product::{ColumnProduct, Right, RowProduct, Run};
use super::scratch;
use super::window::{SMALL_WINDOW, copy_padded, copy_strided};
use crate::kernels::ConvShape;
use rayon::prelude::*;
use std::ops::Range;

/// Output pixels that are computed together: a multiple of every tile height.
const PIXELS: usize = 192;

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
        Layout::for_rows(self.window(), self.n)
    }

    /// Short windows are gathered, transposed, so that there is one long sum instead of many short
    /// ones.
    fn gathers(&self) -> bool {
        self.window() <= SMALL_WINDOW && self.taps[0] > 1 && !self.layout().is_narrow()
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
        let pixels = grid.len() * self.grid[1];
        let offset = |p: usize| {
            let (qy, qx) = (p / self.grid[1], p % self.grid[1]);
            let at = qy * view.row + qx * view.column;
            (at, self.out_offset(grid.start + qy, qx, first_row))
        };
        if self.gathers() {
            let window = self.window();
            scratch::with(pixels * window, |windows| {
                for (k, to) in windows.chunks_exact_mut(pixels).enumerate() {
                    let from = k / view.segment_len * view.segment_stride + k % view.segment_len;
                    for (qy, to) in to.chunks_exact_mut(self.grid[1]).enumerate() {
                        copy_strided(to, 1, &view.data[from + qy * view.row..], view.column);
                    }
                }
                let mut c_rows = [0; PIXELS];
                for p0 in (0..pixels).step_by(PIXELS) {
                    let c_rows = &mut c_rows[..PIXELS.min(pixels - p0)];
                    c_rows.iter_mut().enumerate().for_each(|(i, c)| *c = offset(p0 + i).1);
                    let runs = [Run { start: p0, b: 0, len: window }];
                    let (a, stride, b) = (&*windows, pixels, Right::Packed(b));
                    ColumnProduct { a, runs: &runs, stride, b, c: out, c_rows, accumulate }.run();
                }
            });
            return;
        }
        let (mut a_rows, mut c_rows) = ([0; PIXELS], [0; PIXELS]);
        for p0 in (0..pixels).step_by(PIXELS) {
            let count = PIXELS.min(pixels - p0);
            for (i, (a, c)) in a_rows.iter_mut().zip(&mut c_rows).enumerate().take(count) {
                (*a, *c) = offset(p0 + i);
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

/// Runs correlations `phase(0..phases)` of a batch of images over disjoint pixels of `out`. Their
/// right operands follow one another in `packed`, in their layouts. `finish` gets every band that is
/// complete, with its offset in `out`.
pub fn run(
    phases: usize,
    phase: impl Fn(usize) -> Correlation + Sync,
    packed: &[f32],
    source: &[f32],
    out: &mut [f32],
    accumulate: bool,
    finish: impl Fn(usize, &mut [f32]) + Sync,
) {
    let first = phase(0);
    let pitch = first.out[1] * first.n;
    let image = first.out[0] * pitch;
    // Bands of about PIXELS pixels in each phase.
    let band = (PIXELS.div_ceil(first.grid[1].max(1)) * first.out_step).max(1);
    let images = out.par_chunks_mut(image).zip(source.par_chunks(first.source_len()));
    images.enumerate().for_each(|(index, (out, source))| {
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
            finish(index * image + i * band * pitch, out);
        });
    });
}
