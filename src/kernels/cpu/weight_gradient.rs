//! The weight gradient of a convolution: window^T dy, summed over output pixels.
//!
//! A kernel row's part of a window is contiguous in NHWC, so that the outer product of a window and
//! a pixel's dy reads both where they lie. Few output channels would leave the vectors of dy mostly
//! empty: then the operands change places, and the transposed gradient is summed.

use super::panels::{Layout, Panels};
use super::product::{ColumnProduct, Right, Run};
use super::window::{SMALL_WINDOW, copy_padded, copy_strided};
use super::{scratch, tile};
use crate::kernels::ConvShape;
use rayon::prelude::*;
use std::ops::Range;

/// Output pixels that are multiplied at once: their dy stays in the cache.
const PIXELS: usize = 128;
/// Rows of the gradient that one task computes at most: a multiple of every tile height.
const ROWS: usize = 192;

/// How windows reach the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Windows {
    /// x itself: a pointwise convolution.
    InPlace,
    /// One padded source row for each output row.
    Padded,
    /// Copied whole, one by one.
    Gathered,
}

/// Writes partial sums over `chunk` output pixels each: `partials` is `[splits, kh kw cin, cout]`.
pub fn run(shape: &ConvShape, chunk: usize, x: &[f32], dy: &[f32], partials: &mut [f32]) {
    let mut s = *shape;
    if s.is_pointwise() {
        // All pixels in one row.
        (s.w, s.h, s.n) = (s.pixels(), 1, 1);
    }
    let transposed = Layout::for_rows(s.window(), s.cout).is_narrow();
    let windows = if s.window() <= SMALL_WINDOW && s.kh > 1 {
        Windows::Gathered
    } else if s.is_pointwise() && !transposed {
        Windows::InPlace
    } else {
        Windows::Padded
    };
    // Rows of the gradient that share source rows: those of one kernel row.
    let group = if windows == Windows::Gathered { s.window() } else { s.kw * s.cin };
    partials.par_chunks_mut(s.w_len()).enumerate().for_each(|(split, partial)| {
        let end = ((split + 1) * chunk).min(s.pixels());
        let pixels = (split * chunk).min(end)..end;
        partial.par_chunks_mut(group * s.cout).enumerate().for_each(|(ky, rows)| {
            rows.par_chunks_mut(ROWS * s.cout).enumerate().for_each(|(i, out)| {
                let pixels = pixels.clone();
                let (first, rows) = (i * ROWS, out.len() / s.cout);
                Task { s, x, dy, pixels, ky, first, rows, windows, transposed }.run(out);
            });
        });
    });
}

/// The gradient's rows `first..first + rows` among those of kernel row `ky` (of the whole kernel
/// where windows are gathered), summed over `pixels`.
struct Task<'a> {
    s: ConvShape,
    x: &'a [f32],
    dy: &'a [f32],
    pixels: Range<usize>,
    ky: usize,
    first: usize,
    rows: usize,
    windows: Windows,
    transposed: bool,
}

impl Task<'_> {
    fn run(&self, out: &mut [f32]) {
        if self.pixels.is_empty() {
            out.fill(0.0);
        } else if self.transposed {
            scratch::with(out.len(), |sums| {
                self.sum(sums);
                for (co, sums) in sums.chunks_exact(self.rows).enumerate() {
                    copy_strided(&mut out[co..], self.s.cout, sums, 1);
                }
            });
        } else {
            self.sum(out);
        }
    }

    /// Floats from one window of a row to the next.
    fn step(&self) -> usize {
        match self.windows {
            Windows::Gathered => self.s.window(),
            _ => self.s.stride * self.s.cin,
        }
    }

    fn sum(&self, out: &mut [f32]) {
        let s = &self.s;
        let runs = PIXELS.min(PIXELS / s.ow() + 2);
        let copied = match self.windows {
            Windows::InPlace => 0,
            // Each run ends with a whole window and starts at a multiple of the step.
            Windows::Padded => (PIXELS + 2 * runs) * self.step() + runs * s.kw * s.cin,
            Windows::Gathered => PIXELS * s.window(),
        };
        // A source row on its way to gathered windows.
        let row = (PIXELS * s.stride + s.kw) * s.cin;
        let layout = Layout::new(PIXELS, s.cout);
        let packed = if layout.is_plain() { 0 } else { layout.floats() };
        scratch::with(packed, |packed| {
            scratch::with(copied + tile::MAX_WIDTH, |windows| {
                scratch::with(row, |row| {
                    for first in self.pixels.clone().step_by(PIXELS) {
                        let pixels = first..(first + PIXELS).min(self.pixels.end);
                        let accumulate = first > self.pixels.start;
                        self.block(pixels, (packed, windows, row), out, accumulate);
                    }
                });
            });
        });
    }

    /// Adds (or writes) the sum over a few pixels.
    fn block(
        &self,
        pixels: Range<usize>,
        (packed, windows, row): (&mut [f32], &mut [f32], &mut [f32]),
        out: &mut [f32],
        accumulate: bool,
    ) {
        let (s, step) = (&self.s, self.step());
        let mut runs = [Run::default(); PIXELS];
        let (mut count, mut used, mut p) = (0, 0, pixels.start);
        while p < pixels.end {
            let (n, oy, ox) = (p / (s.oh() * s.ow()), p / s.ow() % s.oh(), p % s.ow());
            let len = (s.ow() - ox).min(pixels.end - p);
            let b = p - pixels.start;
            let column = (ox * s.stride) as isize - s.pad[2] as isize;
            let floats = ((len - 1) * s.stride + s.kw) * s.cin;
            let start = match self.windows {
                Windows::InPlace => Some(p * s.cin),
                Windows::Padded => self.source_row(n, oy, self.ky).map(|source| {
                    let start = used;
                    copy_padded(&mut windows[start..][..floats], source, column, s.cin);
                    used = (used + floats).next_multiple_of(step);
                    start
                }),
                Windows::Gathered => {
                    for ky in 0..s.kh {
                        let source = self.source_row(n, oy, ky).unwrap_or(&[]);
                        copy_padded(&mut row[..floats], source, column, s.cin);
                        for j in 0..s.kw * s.cin {
                            let to = &mut windows[used + ky * s.kw * s.cin + j..];
                            let to = &mut to[..(len - 1) * step + 1];
                            copy_strided(to, step, &row[j..], s.stride * s.cin);
                        }
                    }
                    used += len * step;
                    Some(used - len * step)
                }
            };
            // Outside the image the window is zero.
            if let Some(start) = start {
                runs[count] = Run { start, b, len };
                count += 1;
            }
            p += len;
        }
        let runs = &mut runs[..count];
        if self.transposed {
            let dy = &self.dy[pixels.start * s.cout..];
            for run in runs.iter_mut() {
                (run.start, run.b) = (run.b * s.cout, run.start / step);
            }
            let mut c_rows = [0; tile::MAX_WIDTH];
            let c_rows = &mut c_rows[..s.cout];
            c_rows.iter_mut().enumerate().for_each(|(i, c)| *c = i * self.rows);
            let (arch, data) = (pulp::Arch::new(), &windows[self.first..]);
            let b = Right::Strided { arch, data, pitch: step, n: self.rows };
            let product =
                ColumnProduct { a: dy, runs, stride: s.cout, b, c: out, c_rows, accumulate };
            return product.run();
        }
        let layout = Layout::new(pixels.len(), s.cout);
        let dy = &self.dy[pixels.start * s.cout..pixels.end * s.cout];
        let data = if layout.is_plain() {
            dy
        } else {
            layout.pack_rows(packed, |k| &dy[k * s.cout..][..s.cout]);
            packed
        };
        let b = Right::Packed(Panels { layout, data });
        let a = if self.windows == Windows::InPlace { self.x } else { windows };
        let c_rows: [usize; ROWS] = std::array::from_fn(|i| i * s.cout);
        let c_rows = &c_rows[..self.rows];
        let a = &a[self.first..];
        ColumnProduct { a, runs, stride: step, b, c: out, c_rows, accumulate }.run();
    }

    /// The source row under kernel row `ky`, if it lies in the image.
    fn source_row(&self, n: usize, oy: usize, ky: usize) -> Option<&[f32]> {
        let s = &self.s;
        let iy = (oy * s.stride + ky).checked_sub(s.pad[0]).filter(|iy| *iy < s.h)?;
        Some(&self.x[(n * s.h + iy) * s.w * s.cin..][..s.w * s.cin])
    }
}
