//! Elementwise sums, differences and products, with the second operand repeated.

use super::{
    Bind, Case, Const, Cost, Expr, Fill, Io, Kernel, Real, bindings, flag, float, grid_1d, int,
    wrong_binds,
};
use crate::naive_forms;
use rayon::prelude::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
}

impl BinaryOp {
    pub const ALL: [BinaryOp; 3] = [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul];

    #[inline(always)]
    pub(super) fn of<T: Real>(self, a: T, b: T) -> T {
        match self {
            BinaryOp::Add => a + b,
            BinaryOp::Sub => a - b,
            BinaryOp::Mul => a * b,
        }
    }
}

/// y (+)= alpha (a op b): bindings a [n], b [b_len], y [n]. Element i meets `b[i % b_len]`: a bias
/// over channels, a positional table over a batch, or (`b_len == n`) a tensor of the same shape.
#[derive(Debug, Clone)]
pub struct Binary {
    pub op: BinaryOp,
    pub n: usize,
    /// Divides n.
    pub b_len: usize,
    /// Add to y instead of writing it.
    pub accum: bool,
    /// Finite.
    pub alpha: f32,
}

impl Binary {
    fn width(&self) -> usize {
        if self.n.is_multiple_of(4) && self.b_len.is_multiple_of(4) { 4 } else { 1 }
    }
    fn repeats(&self) -> bool {
        self.b_len < self.n
    }

    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(a), Bind::In(b), Bind::Out(y), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        for i in 0..self.n {
            let v = T::of(self.alpha.into()) * self.op.of(a[i], b[i % self.b_len]);
            y[i] = if self.accum { y[i] + v } else { v };
        }
    }

    /// The contiguous case of the cpu form: three slices of one length.
    fn run(&self, a: &[f32], b: &[f32], y: &mut [f32]) {
        let each = y.iter_mut().zip(a).zip(b);
        if self.accum {
            each.for_each(|((y, &a), &b)| *y += self.alpha * self.op.of(a, b));
        } else {
            each.for_each(|((y, &a), &b)| *y = self.alpha * self.op.of(a, b));
        }
    }
}

impl Kernel for Binary {
    fn name(&self) -> &'static str {
        "binary"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/binary.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        let mut consts = vec![
            int("OP", self.op as usize),
            flag("VEC4", self.width() == 4),
            flag("REPEAT", self.repeats()),
            flag("ACCUM", self.accum),
            float("ALPHA", self.alpha),
        ];
        if self.repeats() {
            consts.push(int("B_LEN", self.b_len / self.width()));
        }
        consts
    }
    fn dims(&self) -> Vec<u32> {
        vec![(self.n / self.width()) as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.n, self.b_len, self.n]
    }
    fn half_ok(&self) -> u32 {
        bindings(&[0, 1, 2])
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.n / self.width(), 256)
    }
    fn cost(&self) -> Cost {
        let (n, accum) = (self.n as u64, u64::from(self.accum));
        Cost { flops: (2 + accum) * n, bytes: 4 * ((2 + accum) * n + self.b_len as u64) }
    }
    fn elementwise(&self) -> Option<Expr> {
        let mut expr = Expr::default();
        let (a, b) = (expr.load(0), expr.load(1));
        let v = expr.binary(self.op, a, b);
        let v = expr.scaled(self.alpha, v);
        Some(expr.store(v, self.accum))
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        const CHUNK: usize = 16_384;
        let [Bind::In(a), Bind::In(b), Bind::Out(y), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let chunks = y.par_chunks_mut(CHUNK).zip(a.par_chunks(CHUNK)).enumerate();
        chunks.for_each(|(chunk, (mut y, mut a))| {
            pulp::Arch::new().dispatch(|| {
                let mut at = chunk * CHUNK % self.b_len;
                while !y.is_empty() {
                    // Up to the next wrap of b.
                    let run = y.len().min(self.b_len - at);
                    let (now, later) = std::mem::take(&mut y).split_at_mut(run);
                    self.run(&a[..run], &b[at..at + run], now);
                    (y, a, at) = (later, &a[run..], 0);
                }
            });
        });
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    let shapes = [(1, 1), (41, 41), (47 * 6, 47), (64 * 5, 64), (61 * 55, 1), (20_000, 20_000)];
    for (turn, (n, b_len)) in shapes.into_iter().enumerate() {
        for op in BinaryOp::ALL {
            let accum = (turn + op as usize) % 2 == 1;
            let alpha = [1.0, -1.0, 0.3][(turn + 2 * op as usize) % 3];
            let out = if accum { Fill::normal() } else { Fill::Poison };
            cases.push(Case::new(
                format!("{op:?} n={n} b_len={b_len} accum={accum} alpha={alpha}"),
                Binary { op, n, b_len, accum, alpha },
                vec![Fill::normal(), Fill::normal(), out],
            ));
        }
    }
    // A chunk of the cpu form that starts inside b.
    let kernel = Binary { op: BinaryOp::Sub, n: 41 * 1000, b_len: 41, accum: true, alpha: 2.0 };
    cases.push(Case::new("41 over 41,000", kernel, vec![Fill::Ints(-9, 9); 3]).exact());
    cases
}
