//! Matrix product.

use super::block::{Block, Gemm};
use super::cpu::math::vectorised;
use super::cpu::panels::{Layout, Panels};
use super::cpu::product::{ColumnProduct, Right, RowProduct, Run, add_to_rows};
use super::cpu::scratch;
use super::unary::{self, Activation};
use super::variant::{self, Blocked};
use super::{
    Bind, Caps, Case, Const, Cost, Fill, Io, Kernel, Product, Real, bindings, flag, int,
    wrong_binds,
};
use crate::naive_forms;
use rayon::prelude::*;
use std::sync::Arc;

/// `y[b, m, n] = act(sum_k a[b, m, k] w[b, k, n] + bias[n])`. Bindings: a, w, bias (if any), y.
#[derive(Debug, Clone)]
pub struct Matmul {
    pub batch: usize,
    pub m: usize,
    pub k: usize,
    pub n: usize,
    /// a is stored `[b, k, m]`.
    pub ta: bool,
    /// w is stored `[b, n, k]`.
    pub tb: bool,
    /// One w per batch entry; otherwise all share one.
    pub batched_b: bool,
    pub bias: bool,
    pub act: Option<Activation>,
    /// Add to y instead of writing it.
    pub accum: bool,
}

/// a, w, bias and y of a launch.
pub(super) type Operands<'io, T> = (&'io [T], &'io [T], Option<&'io [T]>, &'io mut [T]);

impl Matmul {
    /// `y[m, n] = a[m, k] w[k, n]`, the plain form to start from.
    pub fn new(m: usize, k: usize, n: usize) -> Self {
        Matmul {
            batch: 1,
            m,
            k,
            n,
            ta: false,
            tb: false,
            batched_b: false,
            bias: false,
            act: None,
            accum: false,
        }
    }

    fn block(&self) -> Block {
        Block::for_columns(self.n)
    }

    /// Whether the lines of a, and those of w, are whole vec4s.
    fn a_vec4(&self) -> bool {
        if self.ta { self.m.is_multiple_of(4) } else { self.k.is_multiple_of(4) }
    }

    fn b_vec4(&self) -> bool {
        if self.tb { self.k.is_multiple_of(4) } else { self.n.is_multiple_of(4) }
    }

    fn operands<'io, T>(&self, io: &'io mut Io<'_, T>) -> Operands<'io, T> {
        match &mut io.binds {
            [Bind::In(a), Bind::In(w), Bind::In(bias), Bind::Out(y), ..] if self.bias => {
                (a, w, Some(bias), y)
            }
            [Bind::In(a), Bind::In(w), Bind::Out(y), ..] => (a, w, None, y),
            _ => wrong_binds(self.name()),
        }
    }

    pub(super) fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let (a, w, bias, y) = self.operands(io);
        for b in 0..self.batch {
            let wb = if self.batched_b { b } else { 0 };
            for i in 0..self.m {
                for j in 0..self.n {
                    let mut sum = bias.map_or(T::zero(), |bias| bias[j]);
                    for k in 0..self.k {
                        let (row, column) = (b * self.m + i, wb * self.n + j);
                        let left = if self.ta {
                            a[(b * self.k + k) * self.m + i]
                        } else {
                            a[row * self.k + k]
                        };
                        let right = if self.tb {
                            w[column * self.k + k]
                        } else {
                            w[(wb * self.k + k) * self.n + j]
                        };
                        sum += left * right;
                    }
                    let v = self.act.map_or(sum, |act| act.value(sum));
                    let y = &mut y[(b * self.m + i) * self.n + j];
                    *y = if self.accum { *y + v } else { v };
                }
            }
        }
    }

    /// The CPU form; `then` gets every finished stretch of y with its offset.
    pub(super) fn compute(
        &self,
        (a, w, bias, y): Operands<'_, f32>,
        then: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let layout = if self.ta { Layout::new } else { Layout::for_rows }(self.k, self.n);
        let pack = |packed: &mut [f32], w: &[f32]| {
            if self.tb {
                layout.pack_columns(packed, self.k, |_, j| &w[j * self.k..][..self.k]);
            } else {
                layout.pack_rows(packed, |k| &w[k * self.n..][..self.n]);
            }
        };
        let size = self.m * self.n;
        let entries = y.par_chunks_mut(size).zip(a.par_chunks(self.m * self.k)).enumerate();
        if self.batched_b {
            entries.zip(w.par_chunks(self.k * self.n)).for_each(|((i, (y, a)), w)| {
                scratch::with(layout.floats(), |packed| {
                    pack(packed, w);
                    let panels = Panels { layout, data: packed };
                    self.entry(a, panels, bias, y, |at, y| then(i * size + at, y));
                });
            });
        } else {
            scratch::with(layout.floats(), |packed| {
                pack(packed, w);
                let panels = Panels { layout, data: packed };
                entries.for_each(|(i, (y, a))| {
                    self.entry(a, panels, bias, y, |at, y| then(i * size + at, y));
                });
            });
        }
    }

    /// The product of one batch entry with packed weights.
    fn entry(
        &self,
        a: &[f32],
        w: Panels<'_>,
        bias: Option<&[f32]>,
        y: &mut [f32],
        then: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        y.par_chunks_mut(ROWS * self.n).enumerate().for_each(|(i, y)| {
            match self.act {
                // y + act(...) needs the argument of act by itself.
                Some(_) if self.accum => scratch::with(y.len(), |v| {
                    self.rows(a, w, bias, i * ROWS, v, false);
                    y.iter_mut().zip(v).for_each(|(y, v)| *y += *v);
                }),
                _ => self.rows(a, w, bias, i * ROWS, y, self.accum),
            }
            then(i * ROWS * self.n, y);
        });
    }

    /// Rows `first..` of the output.
    fn rows(
        &self,
        a: &[f32],
        b: Panels<'_>,
        bias: Option<&[f32]>,
        first: usize,
        c: &mut [f32],
        accumulate: bool,
    ) {
        let rows = c.len() / self.n;
        let c_rows: [usize; ROWS] = std::array::from_fn(|i| i * self.n);
        let c_rows = &c_rows[..rows];
        if self.ta {
            for k0 in (0..self.k).step_by(SUMMANDS) {
                let len = SUMMANDS.min(self.k - k0);
                let runs = [Run { start: k0 * self.m + first, b: k0, len }];
                let (b, stride, accumulate) = (Right::Packed(b), self.m, accumulate || k0 > 0);
                ColumnProduct { a, runs: &runs, stride, b, c, c_rows, accumulate }.run();
            }
        } else {
            let a_rows: [usize; ROWS] = std::array::from_fn(|i| (first + i) * self.k);
            RowProduct {
                a,
                a_rows: &a_rows[..rows],
                segments: 1,
                segment_stride: 0,
                segment_len: self.k,
                b,
                c,
                c_rows,
                accumulate,
            }
            .run();
        }
        if let Some(bias) = bias {
            add_to_rows(c, bias);
        }
        if let Some(act) = self.act {
            vectorised(
                #[inline(always)]
                || unary::apply(act, c),
            );
        }
    }
}

/// Rows of a task on the CPU: a multiple of every tile height.
const ROWS: usize = 96;
/// Summands that are multiplied at once where a is transposed.
const SUMMANDS: usize = 256;

impl Blocked for Matmul {
    fn gemm(&self) -> Gemm {
        let Matmul { m, n, k, ta, tb, .. } = *self;
        let vec4 = self.a_vec4() && self.b_vec4() && n.is_multiple_of(4);
        Gemm { m, n, k, a_along_k: !ta, b_along_k: tb, vec4 }
    }
    fn consts_by(&self, block: Block) -> Vec<Const> {
        let mut consts = vec![
            int("K", self.k),
            int("N", self.n),
            flag("A_VEC4", self.a_vec4()),
            flag("B_VEC4", self.b_vec4()),
            flag("Y_VEC4", self.n.is_multiple_of(4)),
            flag("BATCHED_B", self.batched_b),
            flag("BIAS", self.bias),
            flag("ACT", self.act.is_some()),
            flag("ACCUM", self.accum),
            flag("EPILOGUE", false),
        ];
        // Two scalar operands along k look at every k anyway.
        if self.ta || !self.tb || self.k.is_multiple_of(4) {
            consts.push(flag("K_TAIL", !self.k.is_multiple_of(block.bk)));
        }
        consts.extend(self.act.map(|act| int("OP", act as usize)));
        consts.extend(block.consts(self.gemm()));
        consts
    }
    fn dims_by(&self, block: Block) -> Vec<u32> {
        let blocks = self.batch * block.count(self.m, self.n);
        [self.m, self.m.div_ceil(block.bm), blocks].map(|v| v as u32).to_vec()
    }
    fn grid_by(&self, block: Block) -> [u32; 3] {
        Block::grid(self.batch * block.count(self.m, self.n))
    }
}

impl Kernel for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/matmul.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        self.consts_by(self.block())
    }
    fn dims(&self) -> Vec<u32> {
        self.dims_by(self.block())
    }
    fn lens(&self) -> Vec<usize> {
        let matrices = if self.batched_b { self.batch } else { 1 };
        let mut lens = vec![self.batch * self.m * self.k, matrices * self.k * self.n];
        lens.extend(self.bias.then_some(self.n));
        lens.push(self.batch * self.m * self.n);
        lens
    }
    fn half_ok(&self) -> u32 {
        bindings(&[0, 1, 2 + usize::from(self.bias)])
    }
    fn grid(&self) -> [u32; 3] {
        self.grid_by(self.block())
    }
    fn variants(&self, caps: &Caps) -> Vec<Arc<dyn Kernel>> {
        variant::variants(self, caps)
    }
    fn cost(&self) -> Cost {
        let outputs = self.batch * self.m * self.n;
        let words: usize = self.lens().iter().sum::<usize>() + if self.accum { outputs } else { 0 };
        let act = if self.act.is_some() { 12 } else { 0 };
        Cost { flops: (outputs * (2 * self.k + act)) as u64, bytes: 4 * words as u64 }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        self.compute(self.operands(io), |_, _| {});
    }
    /// One that adds to y leaves nothing for an epilogue to start from.
    fn product(&self) -> Option<Product> {
        (!self.accum).then(|| Product::Matmul(self.clone()))
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    let mut push = |kernel: Matmul, exact: bool| {
        let fill = if exact { Fill::Ints(-3, 3) } else { Fill::normal() };
        let mut fills = vec![fill.clone(); kernel.lens().len() - 1];
        fills.push(if kernel.accum { fill } else { Fill::Poison });
        let name = format!(
            "{}x{}x{}x{} ta={} tb={} batched={} bias={} act={:?} accum={}",
            kernel.batch,
            kernel.m,
            kernel.k,
            kernel.n,
            u8::from(kernel.ta),
            u8::from(kernel.tb),
            u8::from(kernel.batched_b),
            u8::from(kernel.bias),
            kernel.act,
            u8::from(kernel.accum)
        );
        let case = Case::new(name, kernel, fills);
        cases.push(if exact { case.exact() } else { case });
    };
    let sizes = [(1, 1, 1), (63, 15, 65), (64, 16, 64), (65, 17, 63), (41, 47, 55), (7, 300, 12)];
    for (i, (m, k, n)) in sizes.into_iter().enumerate() {
        for (ta, tb) in [(false, false), (false, true), (true, false), (true, true)] {
            push(Matmul { ta, tb, ..Matmul::new(m, k, n) }, true);
            // The switches with half of the storage orders each.
            if (i % 2 == 0) == (ta != tb) {
                continue;
            }
            let batch = 1 + (i + usize::from(ta)) % 3;
            push(
                Matmul {
                    batch,
                    ta,
                    tb,
                    batched_b: (i + usize::from(tb)).is_multiple_of(2),
                    bias: i.is_multiple_of(2),
                    accum: (i / 2).is_multiple_of(2) != ta,
                    ..Matmul::new(m, k, n)
                },
                false,
            );
        }
    }
    for act in Activation::ALL {
        push(Matmul { act: Some(act), bias: true, ..Matmul::new(66, 20, 36) }, false);
    }
    let act = Some(Activation::Silu);
    push(Matmul { act, bias: true, accum: true, ..Matmul::new(66, 20, 36) }, false);
    push(Matmul { act, ..Matmul::new(9, 61, 41) }, false);
    push(Matmul { batch: 2, batched_b: true, ..Matmul::new(130, 32, 16) }, true);
    push(Matmul { bias: true, ..Matmul::new(257, 61, 3) }, true);
    // Tails of the larger blocks, and of those for few rows or columns.
    push(Matmul::new(127, 20, 129), true);
    push(Matmul { ta: true, tb: true, accum: true, ..Matmul::new(129, 36, 132) }, false);
    push(Matmul::new(5, 130, 132), true);
    push(Matmul { batch: 2, tb: true, ..Matmul::new(200, 92, 4) }, true);
    push(Matmul { ta: true, accum: true, ..Matmul::new(201, 68, 7) }, false);
    cases
}
