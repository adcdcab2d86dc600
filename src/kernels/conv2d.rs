//! 2-D convolution, forward.

use super::block::{Block, Gemm};
use super::cpu::correlate::{self, Correlation};
use super::cpu::product::add_to_rows;
use super::cpu::scratch;
use super::variant::{self, Blocked};
use super::{
    Bind, Caps, Case, Const, ConvShape, Cost, Fill, Io, Kernel, Product, Real, bindings, flag,
    wrong_binds,
};
use crate::naive_forms;
use std::sync::Arc;

/// Bindings: x, w, bias (if any), y; shapes in [`ConvShape`].
#[derive(Debug, Clone)]
pub struct Conv2d {
    pub shape: ConvShape,
    pub bias: bool,
}

/// x, weights, bias and y of a launch.
pub(super) type Operands<'io, T> = (&'io [T], &'io [T], Option<&'io [T]>, &'io mut [T]);

impl Conv2d {
    fn block(&self) -> Block {
        Block::for_columns(self.shape.cout)
    }

    fn operands<'io, T>(&self, io: &'io mut Io<'_, T>) -> Operands<'io, T> {
        match &mut io.binds {
            [Bind::In(x), Bind::In(w), Bind::In(bias), Bind::Out(y), ..] if self.bias => {
                (x, w, Some(bias), y)
            }
            [Bind::In(x), Bind::In(w), Bind::Out(y), ..] => (x, w, None, y),
            _ => wrong_binds(self.name()),
        }
    }

    /// The CPU form; `then` gets every finished stretch of y with its offset.
    pub(super) fn compute(
        &self,
        (x, w, bias, y): Operands<'_, f32>,
        then: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let s = self.shape.rows_of_pixels();
        let layout = Correlation::forward(&s).layout();
        scratch::with(layout.floats(), |packed| {
            layout.pack_rows(packed, |k| &w[k * s.cout..][..s.cout]);
            let forward = |_| Correlation::forward(&s);
            correlate::run(1, forward, packed, x, y, false, |at, rows| {
                if let Some(bias) = bias {
                    add_to_rows(rows, bias);
                }
                then(at, rows);
            });
        });
    }

    pub(super) fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let (s, (x, w, bias, y)) = (self.shape, self.operands(io));
        for n in 0..s.n {
            for oy in 0..s.oh() {
                for ox in 0..s.ow() {
                    for co in 0..s.cout {
                        let mut sum = bias.map_or(T::zero(), |b| b[co]);
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
                                    sum += x[((n * s.h + iy) * s.w + ix) * s.cin + ci]
                                        * w[((ky * s.kw + kx) * s.cin + ci) * s.cout + co];
                                }
                            }
                        }
                        y[((n * s.oh() + oy) * s.ow() + ox) * s.cout + co] = sum;
                    }
                }
            }
        }
    }
}

impl Blocked for Conv2d {
    fn gemm(&self) -> Gemm {
        let s = &self.shape;
        let (m, n, k) = (s.pixels(), s.cout, s.window());
        Gemm { m, n, k, a_along_k: true, b_along_k: false, vec4: s.vec4() }
    }
    fn consts_by(&self, block: Block) -> Vec<Const> {
        let s = &self.shape;
        let mut consts = s.consts();
        consts.extend(block.consts(self.gemm()));
        consts.extend([
            flag("K_TAIL", !s.window().is_multiple_of(block.bk)),
            flag("X_VEC4", s.cin.is_multiple_of(4)),
            flag("Y_VEC4", s.cout.is_multiple_of(4)),
            flag("BIAS", self.bias),
            flag("EPILOGUE", false),
            flag("ACT", false),
            flag("ACCUM", false),
        ]);
        if s.cin.is_multiple_of(4) {
            consts.push(flag("WHOLE_TAPS", s.cin.is_multiple_of(block.bk)));
        }
        consts
    }
    fn dims_by(&self, block: Block) -> Vec<u32> {
        let pixels = self.shape.pixels();
        vec![pixels as u32, block.count(pixels, self.shape.cout) as u32]
    }
    fn grid_by(&self, block: Block) -> [u32; 3] {
        Block::grid(block.count(self.shape.pixels(), self.shape.cout))
    }
}

impl Kernel for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/conv2d.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        self.consts_by(self.block())
    }
    fn dims(&self) -> Vec<u32> {
        self.dims_by(self.block())
    }
    fn lens(&self) -> Vec<usize> {
        let s = &self.shape;
        let mut lens = vec![s.x_len(), s.w_len()];
        lens.extend(self.bias.then_some(s.cout));
        lens.push(s.y_len());
        lens
    }
    fn half_ok(&self) -> u32 {
        bindings(&[0, 2 + usize::from(self.bias)])
    }
    fn grid(&self) -> [u32; 3] {
        self.grid_by(self.block())
    }
    fn variants(&self, caps: &Caps) -> Vec<Arc<dyn Kernel>> {
        variant::variants(self, caps)
    }
    fn cost(&self) -> Cost {
        let words: usize = self.lens().iter().sum();
        Cost { flops: self.shape.flops(), bytes: 4 * words as u64 }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        self.compute(self.operands(io), |_, _| {});
    }
    fn product(&self) -> Option<Product> {
        Some(Product::Conv2d(self.clone()))
    }
    naive_forms!();
}

/// Shapes for all three convolution kernels: tails of every tile size, kernels of 1, 2, 3 and 5,
/// strides of 1, 2 and 3, padding on any side, kernels smaller than the stride.
pub(super) fn shapes() -> Vec<ConvShape> {
    let s = |n, (h, w), (cin, cout), (kh, kw), stride, pad| ConvShape {
        n,
        h,
        w,
        cin,
        cout,
        kh,
        kw,
        stride,
        pad,
    };
    let same = [1, 1, 1, 1];
    vec![
        s(1, (1, 1), (1, 1), (1, 1), 1, [0; 4]),
        s(2, (5, 7), (1, 32), (3, 3), 1, same),
        s(2, (7, 5), (32, 1), (3, 3), 1, same),
        s(1, (8, 8), (64, 64), (3, 3), 1, same),
        s(2, (9, 9), (16, 68), (3, 3), 1, same),
        s(1, (6, 13), (41, 47), (3, 3), 1, same),
        s(1, (5, 5), (55, 61), (1, 1), 1, [0; 4]),
        s(1, (41, 3), (8, 4), (1, 1), 1, [0; 4]),
        // The downsampling of diffusers: padding on the right and at the bottom only.
        s(2, (8, 8), (16, 20), (3, 3), 2, [0, 1, 0, 1]),
        s(1, (9, 11), (4, 7), (3, 3), 2, same),
        s(2, (8, 6), (8, 12), (4, 4), 2, same),
        s(1, (7, 9), (3, 5), (5, 2), 1, [2, 2, 1, 0]),
        s(1, (8, 9), (4, 4), (1, 1), 2, [0; 4]),
        s(1, (11, 10), (2, 3), (2, 2), 3, [1, 0, 0, 2]),
        s(1, (4, 4), (4, 8), (3, 3), 1, [3, 2, 0, 4]),
        // More pixels and window rows than the CPU forms take at once.
        s(1, (3, 200), (1, 8), (3, 3), 1, same),
        s(1, (50, 18), (4, 4), (3, 3), 2, same),
        s(1, (4, 5), (68, 20), (3, 3), 1, same),
        s(1, (4, 5), (70, 5), (3, 3), 1, same),
        // The last input row and column lie under no window.
        s(1, (6, 6), (8, 8), (3, 3), 2, [0; 4]),
        // One channel in or out, with enough pixels for the blocks made for that.
        s(2, (15, 17), (1, 32), (3, 3), 1, same),
        s(2, (17, 15), (32, 1), (3, 3), 1, same),
    ]
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (i, shape) in shapes().into_iter().enumerate() {
        for bias in [false, true] {
            // Every other shape also with the switch.
            if bias && i % 2 == 0 {
                continue;
            }
            let kernel = Conv2d { shape, bias };
            let fills = |fill: Fill| {
                let mut fills = vec![fill.clone(); kernel.lens().len() - 1];
                fills.push(Fill::Poison);
                fills
            };
            let name = format!("{shape:?} bias={bias}");
            cases.push(if bias {
                Case::new(name, kernel.clone(), fills(Fill::normal()))
            } else {
                Case::new(name, kernel.clone(), fills(Fill::Ints(-3, 3))).exact()
            });
        }
    }
    cases
}
