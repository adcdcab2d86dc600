//! Data gradient of the 2-D convolution.

use super::block::{Block, Gemm};
use super::conv2d::shapes;
use super::cpu::correlate::{self, Correlation};
use super::cpu::scratch;
use super::variant::{self, Blocked};
use super::{
    Bind, Caps, Case, Const, ConvShape, Cost, Fill, Io, Kernel, Real, bindings, flag, wrong_binds,
};
use crate::naive_forms;
use std::sync::Arc;

/// Bindings: dy, w, dx; shapes in [`ConvShape`].
#[derive(Debug, Clone)]
pub struct Conv2dDgrad {
    pub shape: ConvShape,
    /// Add to dx instead of writing it.
    pub accum: bool,
}

impl Conv2dDgrad {
    fn block(&self) -> Block {
        Block::for_columns(self.shape.cin)
    }

    /// Pixels of the largest phase, of the whole batch.
    fn phase_pixels(&self) -> usize {
        let s = &self.shape;
        s.n * s.h.div_ceil(s.stride) * s.w.div_ceil(s.stride)
    }

    /// Straight from the chain rule: every dy adds to each x that its window saw.
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(dy), Bind::In(w), Bind::Out(dx), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let s = self.shape;
        if !self.accum {
            dx.fill(T::zero());
        }
        for p in 0..s.pixels() {
            let (n, oy, ox) = (p / (s.oh() * s.ow()), p / s.ow() % s.oh(), p % s.ow());
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
                            dx[((n * s.h + iy) * s.w + ix) * s.cin + ci] += dy[p * s.cout + co]
                                * w[((ky * s.kw + kx) * s.cin + ci) * s.cout + co];
                        }
                    }
                }
            }
        }
    }
}

impl Blocked for Conv2dDgrad {
    fn gemm(&self) -> Gemm {
        let s = &self.shape;
        let taps = s.kh.div_ceil(s.stride) * s.kw.div_ceil(s.stride);
        let (m, n, k) = (self.phase_pixels(), s.cin, taps * s.cout);
        Gemm { m, n, k, a_along_k: true, b_along_k: true, vec4: s.vec4() }
    }
    fn consts_by(&self, block: Block) -> Vec<Const> {
        let s = &self.shape;
        let mut consts = s.consts();
        consts.extend(block.consts(self.gemm()));
        consts.extend([
            flag("DY_VEC4", s.cout.is_multiple_of(4)),
            flag("DX_VEC4", s.cin.is_multiple_of(4)),
            flag("ACCUM", self.accum),
        ]);
        consts
    }
    fn dims_by(&self, block: Block) -> Vec<u32> {
        let blocks = block.count(self.phase_pixels(), self.shape.cin);
        vec![self.shape.n as u32, blocks as u32]
    }
    fn grid_by(&self, block: Block) -> [u32; 3] {
        let phases = self.shape.stride * self.shape.stride;
        Block::grid(phases * block.count(self.phase_pixels(), self.shape.cin))
    }
}

impl Kernel for Conv2dDgrad {
    fn name(&self) -> &'static str {
        "conv2d_dgrad"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/conv2d_dgrad.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        self.consts_by(self.block())
    }
    fn dims(&self) -> Vec<u32> {
        self.dims_by(self.block())
    }
    fn lens(&self) -> Vec<usize> {
        let s = &self.shape;
        vec![s.y_len(), s.w_len(), s.x_len()]
    }
    fn half_ok(&self) -> u32 {
        bindings(&[0, 2])
    }
    fn grid(&self) -> [u32; 3] {
        self.grid_by(self.block())
    }
    fn variants(&self, caps: &Caps) -> Vec<Arc<dyn Kernel>> {
        variant::variants(self, caps)
    }
    fn cost(&self) -> Cost {
        let s = &self.shape;
        let words = s.y_len() + s.w_len() + s.x_len() * (1 + usize::from(self.accum));
        Cost { flops: s.flops(), bytes: 4 * words as u64 }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [Bind::In(dy), Bind::In(w), Bind::Out(dx), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let s = self.shape.rows_of_pixels();
        let phases = s.stride * s.stride;
        let corner = |i: usize| [i / s.stride, i % s.stride];
        let phase = |i: usize| Correlation::data_gradient(&s, corner(i));
        let len = (0..phases).map(|i| phase(i).layout().floats()).sum();
        scratch::with(len, |packed| {
            let mut rest = &mut *packed;
            for i in 0..phases {
                let [rows, columns] = phase(i).taps;
                let layout = phase(i).layout();
                let (to, tail) = rest.split_at_mut(layout.floats());
                rest = tail;
                // Segment t holds the transposed weights of one tap, the last tap first.
                layout.pack_columns(to, s.cout, |t, ci| {
                    let ky = corner(i)[0] + (rows - 1 - t / columns) * s.stride;
                    let kx = corner(i)[1] + (columns - 1 - t % columns) * s.stride;
                    &w[((ky * s.kw + kx) * s.cin + ci) * s.cout..][..s.cout]
                });
            }
            correlate::run(phases, phase, packed, dy, dx, self.accum, |_, _| {});
        });
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (i, shape) in shapes().into_iter().enumerate() {
        for accum in [false, true] {
            // Every other shape also with the switch.
            if accum && i % 2 == 0 {
                continue;
            }
            let kernel = Conv2dDgrad { shape, accum };
            let name = format!("{shape:?} accum={accum}");
            cases.push(if accum {
                Case::new(name, kernel, vec![Fill::normal(); 3])
            } else {
                let ints = Fill::Ints(-3, 3);
                Case::new(name, kernel, vec![ints.clone(), ints, Fill::Poison]).exact()
            });
        }
    }
    cases
}
