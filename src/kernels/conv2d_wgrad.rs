//! Weight gradient of the 2-D convolution; with h = w = kh = kw = 1 that of a linear layer.

use super::block::{Block, Gemm};
use super::conv2d::shapes;
use super::cpu::weight_gradient;
use super::variant::{self, Blocked};
use super::{
    Bind, Caps, Case, Const, ConvShape, Cost, Fill, Io, Kernel, Real, bindings, flag, wrong_binds,
};
use crate::naive_forms;
use std::sync::Arc;

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

impl Blocked for Conv2dWgrad {
    fn gemm(&self) -> Gemm {
        let s = &self.shape;
        let (m, n, k) = (s.window(), s.cout, self.chunk());
        Gemm { m, n, k, a_along_k: false, b_along_k: false, vec4: s.vec4() }
    }
    fn consts_by(&self, block: Block) -> Vec<Const> {
        let s = &self.shape;
        let mut consts = s.consts();
        consts.extend(block.consts(self.gemm()));
        consts.extend([
            flag("X_VEC4", s.cin.is_multiple_of(4)),
            flag("DY_VEC4", s.cout.is_multiple_of(4)),
        ]);
        consts
    }
    fn dims_by(&self, block: Block) -> Vec<u32> {
        let blocks = block.count(self.shape.window(), self.shape.cout) * self.splits;
        [self.shape.pixels(), self.chunk(), blocks].map(|v| v as u32).to_vec()
    }
    fn grid_by(&self, block: Block) -> [u32; 3] {
        Block::grid(block.count(self.shape.window(), self.shape.cout) * self.splits)
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
        self.consts_by(self.block())
    }
    fn dims(&self) -> Vec<u32> {
        self.dims_by(self.block())
    }
    fn lens(&self) -> Vec<usize> {
        let s = &self.shape;
        vec![s.x_len(), s.y_len(), self.splits * s.w_len()]
    }
    fn half_ok(&self) -> u32 {
        bindings(&[0, 1])
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
        let [Bind::In(x), Bind::In(dy), Bind::Out(partials), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        weight_gradient::run(&self.shape, self.chunk(), x, dy, partials);
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
