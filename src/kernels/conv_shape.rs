//! Sizes of a 2-D convolution, shared by its forward, data-gradient and weight-gradient kernels.

use super::{Const, int};

/// x `[n, h, w, cin]`, weights `[kh, kw, cin, cout]`, y `[n, oh, ow, cout]`:
/// `y[n, oy, ox, co] = sum x[n, oy stride + ky - top, ox stride + kx - left, ci] w[ky, kx, ci, co]`,
/// with x zero outside its borders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvShape {
    pub n: usize,
    pub h: usize,
    pub w: usize,
    pub cin: usize,
    pub cout: usize,
    pub kh: usize,
    pub kw: usize,
    pub stride: usize,
    /// Zeros around x: top, bottom, left, right.
    pub pad: [usize; 4],
}

impl ConvShape {
    /// Height of y.
    pub fn oh(&self) -> usize {
        (self.h + self.pad[0] + self.pad[1] - self.kh) / self.stride + 1
    }
    /// Width of y.
    pub fn ow(&self) -> usize {
        (self.w + self.pad[2] + self.pad[3] - self.kw) / self.stride + 1
    }
    /// Output pixels of the whole batch.
    pub fn pixels(&self) -> usize {
        self.n * self.oh() * self.ow()
    }
    pub fn x_len(&self) -> usize {
        self.n * self.h * self.w * self.cin
    }
    pub fn y_len(&self) -> usize {
        self.pixels() * self.cout
    }
    /// Rows of the weights seen as a matrix `[kh kw cin, cout]`.
    pub fn window(&self) -> usize {
        self.kh * self.kw * self.cin
    }
    pub fn w_len(&self) -> usize {
        self.window() * self.cout
    }
    /// A linear map of each pixel, whatever the images' size.
    pub fn is_pointwise(&self) -> bool {
        (self.kh, self.kw, self.stride, self.pad) == (1, 1, 1, [0; 4])
    }
    /// The same work with a pointwise map's pixels in one column, or as it is.
    pub(super) fn rows_of_pixels(self) -> Self {
        if self.is_pointwise() { ConvShape { n: 1, h: self.pixels(), w: 1, ..self } } else { self }
    }
    /// Whether the channels of x and of y are whole vec4s.
    pub(super) fn vec4(&self) -> bool {
        self.cin.is_multiple_of(4) && self.cout.is_multiple_of(4)
    }
    /// One multiplication and one addition per weight and output pixel: the same for all three
    /// kernels.
    pub fn flops(&self) -> u64 {
        2 * self.pixels() as u64 * self.w_len() as u64
    }
    /// What the shaders know at compile time: all but the batch.
    pub(super) fn consts(&self) -> Vec<Const> {
        vec![
            int("H", self.h),
            int("W", self.w),
            int("CIN", self.cin),
            int("COUT", self.cout),
            int("OH", self.oh()),
            int("OW", self.ow()),
            int("KH", self.kh),
            int("KW", self.kw),
            int("STRIDE", self.stride),
            int("TOP", self.pad[0]),
            int("LEFT", self.pad[2]),
        ]
    }
}
