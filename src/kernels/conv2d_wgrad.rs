//! Weight gradient of the 2-D convolution; with h = w = kh = kw = 1 that of a linear layer.

use super::block::Block;
use super::conv2d::shapes;
use super::cpu::correlate::copy_padded;
use super::cpu::panels::{Layout, Panels};
use super::cpu::product::{ColumnProduct, Run};
use super::cpu::scratch;
use super::{Bind, Case, Const, ConvShape, Cost, Fill, Io, Kernel, Real, flag, wrong_binds};
use crate::naive_forms;
use rayon::prelude::*;

/// Bindings: x, dy, partials `[splits, kh kw cin, cout]`; other shapes in [`ConvShape`].
///
/// The sum runs over all output pixels. Each partial sums one chunk of
/// `ceil(pixels / splits)` consecutive pixels (the last chunks may be empty: zeros), and
/// [`super::SumPartials`] adds the partials in order.
#[derive(Debug, Clone)]
pub struct Conv2dWgrad {
    pub shape: ConvShape,
    pub splits: usize,
}

impl Conv2dWgrad {
    /// With as many splits as give a GPU enough workgroups, but no chunk below 256 pixels.
    pub fn new(shape: ConvShape) -> Self {
        const WORKGROUPS: usize = 256;
        const CHUNK: usize = 256;
        let blocks = Block::for_columns(shape.cout).count(shape.window(), shape.cout);
        let splits = WORKGROUPS.div_ceil(blocks).min(shape.pixels().div_ceil(CHUNK)).max(1);
        Conv2dWgrad { shape, splits }
    }

    fn block(&self) -> Block {
        Block::for_columns(self.shape.cout)
    }

    fn blocks(&self) -> usize {
        self.block().count(self.shape.window(), self.shape.cout) * self.splits
    }

    /// Pixels of a partial.
    fn chunk(&self) -> usize {
        self.shape.pixels().div_ceil(self.splits)
    }

    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(x), Bind::In(dy), Bind::Out(partials), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let s = self.shape;
        partials.fill(T::zero());
        for p in 0..s.pixels() {
            let (n, oy, ox) = (p / (s.oh() * s.ow()), p / s.ow() % s.oh(), p % s.ow());
            let partial = p / s.pixels().div_ceil(self.splits) * s.w_len();
            for ky in 0..s.kh {
                for kx in 0..s.kw {
                    let (iy, ix) = (oy * s.stride + ky, ox * s.stride + kx);
                    if iy < s.pad[0] || ix < s.pad[2] {
                        continue;
                    }
                    let (iy, ix) = (iy - s.pad[0], ix - s.pad[2]);
                    if iy >= s.h || ix >= s.w {
                        continue;
                    }
                    for ci in 0..s.cin {
                        for co in 0..s.cout {
                            partials[partial + ((ky * s.kw + kx) * s.cin + ci) * s.cout + co] +=
                                x[((n * s.h + iy) * s.w + ix) * s.cin + ci] * dy[p * s.cout + co];
                        }
                    }
                }
            }
        }
    }
}

/// Output pixels that are multiplied at once: their dy stays in the cache.
const PIXELS: usize = 128;
/// Rows of the gradient that one task computes at most: a multiple of every tile height.
const ROWS: usize = 192;
/// Windows of at most this many floats are gathered.
const SMALL_WINDOW: usize = 32;

/// One task on the CPU: the gradient's rows `first..first + rows` among those of kernel row `ky`
/// (or, where windows are gathered, of the whole kernel), summed over `pixels`.
struct Task<'a> {
    shape: ConvShape,
    x: &'a [f32],
    dy: &'a [f32],
    pixels: std::ops::Range<usize>,
    ky: usize,
    first: usize,
    rows: usize,
    gathered: bool,
}

impl Task<'_> {
    /// Floats that one output pixel's window takes in the scratch buffer, and the rest of its run.
    fn scratch_len(&self, pixels: usize, runs: usize) -> usize {
        let s = &self.shape;
        if self.gathered { pixels * s.window() } else { (pixels * s.stride + runs * s.kw) * s.cin }
    }

    fn run(&self, out: &mut [f32]) {
        let s = &self.shape;
        let dy_len = Layout::new(PIXELS, s.cout).floats();
        let runs = PIXELS.min(PIXELS / s.ow() + 2);
        let direct = s.kw == 1 && s.stride == 1 && s.pad[2] == 0 && s.pad[3] == 0;
        let x_len = if direct { 0 } else { self.scratch_len(PIXELS, runs) };
        if self.pixels.is_empty() {
            out.fill(0.0);
        }
        scratch::with(dy_len, |packed| {
            scratch::with(x_len, |windows| {
                for first in self.pixels.clone().step_by(PIXELS) {
                    let end = (first + PIXELS).min(self.pixels.end);
                    let accumulate = first > self.pixels.start;
                    self.block(first..end, packed, windows, direct, out, accumulate);
                }
            });
        });
    }

    /// Adds (or writes) the sum over a few pixels.
    fn block(
        &self,
        pixels: std::ops::Range<usize>,
        packed: &mut [f32],
        windows: &mut [f32],
        direct: bool,
        out: &mut [f32],
        accumulate: bool,
    ) {
        let s = &self.shape;
        let layout = Layout::new(pixels.len(), s.cout);
        layout.pack_rows(packed, |k| &self.dy[(pixels.start + k) * s.cout..][..s.cout]);
        let mut runs = [Run::default(); PIXELS];
        let (mut count, mut used, mut p) = (0, 0, pixels.start);
        while p < pixels.end {
            let (n, oy, ox) = (p / (s.oh() * s.ow()), p / s.ow() % s.oh(), p % s.ow());
            let len = (s.ow() - ox).min(pixels.end - p);
            let b = p - pixels.start;
            let image = &self.x[n * s.h * s.w * s.cin..][..s.h * s.w * s.cin];
            let row = |ky: usize| {
                let iy = (oy * s.stride + ky).checked_sub(s.pad[0]).filter(|iy| *iy < s.h);
                iy.map(|iy| &image[iy * s.w * s.cin..][..s.w * s.cin])
            };
            let column = (ox * s.stride) as isize - s.pad[2] as isize;
            if self.gathered {
                for i in 0..len {
                    let window = &mut windows[used + i * s.window()..][..s.window()];
                    for (ky, to) in window.chunks_exact_mut(s.kw * s.cin).enumerate() {
                        let column = column + (i * s.stride) as isize;
                        copy_padded(to, row(ky).unwrap_or(&[]), column, s.cin);
                    }
                }
                runs[count] = Run { start: used, b, len };
                (count, used) = (count + 1, used + len * s.window());
            } else if let Some(row) = row(self.ky) {
                if direct {
                    // Rows of x, without their image's offset, start where the slice does.
                    let start = ((n * s.h + oy + self.ky - s.pad[0]) * s.w + ox) * s.cin;
                    runs[count] = Run { start, b, len };
                } else {
                    let floats = ((len - 1) * s.stride + s.kw) * s.cin;
                    copy_padded(&mut windows[used..used + floats], row, column, s.cin);
                    runs[count] = Run { start: used, b, len };
                    used += floats;
                }
                count += 1;
            }
            p += len;
        }
        let a = if direct && !self.gathered { self.x } else { &*windows };
        ColumnProduct {
            a: &a[self.first.min(a.len())..],
            runs: &runs[..count],
            stride: if self.gathered { s.window() } else { s.stride * s.cin },
            rows: self.rows,
            b: Panels { layout, data: packed },
            c: out,
            accumulate,
        }
        .run();
    }
}

impl Kernel for Conv2dWgrad {
    fn name(&self) -> &'static str {
        "conv2d_wgrad"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/conv2d_wgrad.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        let s = &self.shape;
        let mut consts = s.consts();
        consts.extend(self.block().consts());
        consts.extend([
            flag("A_ALONG_K", false),
            flag("B_ALONG_K", false),
            flag("X_VEC4", s.cin.is_multiple_of(4)),
            flag("DY_VEC4", s.cout.is_multiple_of(4)),
        ]);
        consts
    }
    fn dims(&self) -> Vec<u32> {
        [self.shape.pixels(), self.chunk(), self.blocks()].map(|v| v as u32).to_vec()
    }
    fn lens(&self) -> Vec<usize> {
        let s = &self.shape;
        vec![s.x_len(), s.y_len(), self.splits * s.w_len()]
    }
    fn grid(&self) -> [u32; 3] {
        Block::grid(self.blocks())
    }
    fn cost(&self) -> Cost {
        let words: usize = self.lens().iter().sum();
        Cost { flops: self.shape.flops(), bytes: 4 * words as u64 }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [Bind::In(x), Bind::In(dy), Bind::Out(partials), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let (x, dy): (&[f32], &[f32]) = (x, dy);
        let (chunk, mut s) = (self.chunk(), self.shape);
        if (s.kh, s.kw, s.stride, s.pad) == (1, 1, 1, [0; 4]) {
            // A linear layer: all pixels in one row.
            (s.w, s.h, s.n) = (s.n * s.h * s.w, 1, 1);
        }
        let gathered = s.window() <= SMALL_WINDOW && s.kh * s.kw > 1;
        // Rows of the gradient that share the source rows of a kernel row.
        let group = if gathered { s.window() } else { s.kw * s.cin };
        partials.par_chunks_mut(s.w_len()).enumerate().for_each(|(split, partial)| {
            let end = ((split + 1) * chunk).min(s.pixels());
            let pixels = (split * chunk).min(end)..end;
            partial.par_chunks_mut(group * s.cout).enumerate().for_each(|(ky, rows)| {
                rows.par_chunks_mut(ROWS * s.cout).enumerate().for_each(|(i, out)| {
                    let pixels = pixels.clone();
                    let (first, rows) = (i * ROWS, out.len() / s.cout);
                    Task { shape: s, x, dy, pixels, ky, first, rows, gathered }.run(out);
                });
            });
        });
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    let linear =
        |n, cin, cout| ConvShape { n, h: 1, w: 1, cin, cout, kh: 1, kw: 1, stride: 1, pad: [0; 4] };
    let mut all = shapes();
    all.extend([linear(70, 41, 55), linear(300, 68, 36), linear(1, 4, 4)]);
    for shape in all {
        for splits in [1, 3] {
            let kernel = Conv2dWgrad { shape, splits };
            let name = format!("{shape:?} splits={splits}");
            cases.push(if splits == 1 {
                Case::new(name, kernel, vec![Fill::normal(), Fill::normal(), Fill::Poison])
            } else {
                let ints = Fill::Ints(-3, 3);
                Case::new(name, kernel, vec![ints.clone(), ints, Fill::Poison]).exact()
            });
        }
    }
    // Chunks of ceil(5 / 4) = 2 pixels: the last one is empty.
    let ints = Fill::Ints(-3, 3);
    let empty = Conv2dWgrad { shape: linear(5, 3, 2), splits: 4 };
    cases.push(Case::new("empty chunk", empty, vec![ints.clone(), ints, Fill::Poison]).exact());
    cases
}
