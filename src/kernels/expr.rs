//! What a kernel computes element by element: a list of steps, each a value that later steps use.
//!
//! A kernel that says so ([`super::Kernel::elementwise`]) can be joined with its neighbours by
//! `plan::fuse`: the lists are concatenated, the tensor between them is never stored. Each step is
//! one f32 operation with the same operands as in the kernel it came from, so a join changes no bit
//! (as long as the shader compiler does not contract a product and a sum across the former border).

use super::binary::BinaryOp;
use super::cpu::math::vectorised;
use super::cpu::scratch;
use super::unary::{self, Activation};
use super::{MAX_BINDS, Real};
use std::fmt::Write;

/// Steps of one expression, at most.
pub const MAX_STEPS: usize = 32;
/// Values an expression stores, at most.
pub const MAX_OUTS: usize = 3;
/// Elements that the CPU form takes at a time: a register of every step stays in the first cache.
const BLOCK: usize = 1024;

/// One operation; operands are the indices of earlier steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// Input `k`: element `i` meets its element `i % len`; a scalar has one element.
    Load(usize),
    /// What output 0 held before: the other summand of a kernel that accumulates, or the result of
    /// the product that an epilogue continues.
    Old,
    /// A finite constant.
    Const(f32),
    Binary(BinaryOp, usize, usize),
    /// f(x).
    Value(Activation, usize),
    /// f'(x).
    Slope(Activation, usize),
}

impl Step {
    /// The same step with its operands renumbered.
    fn renumbered(self, of: impl Fn(usize) -> usize) -> Step {
        match self {
            Step::Load(_) | Step::Old | Step::Const(_) => self,
            Step::Binary(op, a, b) => Step::Binary(op, of(a), of(b)),
            Step::Value(op, x) => Step::Value(op, of(x)),
            Step::Slope(op, x) => Step::Slope(op, of(x)),
        }
    }
}

/// Steps in order, and which of them are stored: output `j` is step `outs[j]`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Expr {
    pub steps: Vec<Step>,
    pub outs: Vec<usize>,
}

impl Expr {
    /// The result of a product, unchanged: what an epilogue starts from.
    pub fn old() -> Self {
        Expr { steps: vec![Step::Old], outs: vec![0] }
    }

    /// Appends a step, or finds it: equal steps have equal values.
    pub fn push(&mut self, step: Step) -> usize {
        self.steps.iter().position(|s| *s == step).unwrap_or_else(|| {
            self.steps.push(step);
            self.steps.len() - 1
        })
    }

    pub fn load(&mut self, input: usize) -> usize {
        self.push(Step::Load(input))
    }

    pub fn binary(&mut self, op: BinaryOp, a: usize, b: usize) -> usize {
        self.push(Step::Binary(op, a, b))
    }

    /// `factor x`; a factor of 1 changes nothing and is left out.
    pub fn scaled(&mut self, factor: f32, x: usize) -> usize {
        if factor == 1.0 {
            return x;
        }
        let factor = self.push(Step::Const(factor));
        self.binary(BinaryOp::Mul, factor, x)
    }

    /// Stores `value` as the only output, added to what is there if `accum`.
    pub fn store(mut self, value: usize, accum: bool) -> Self {
        let value = if accum {
            let old = self.push(Step::Old);
            self.binary(BinaryOp::Add, old, value)
        } else {
            value
        };
        self.outs = vec![value];
        self
    }

    /// Appends the steps of `other` with `leaf` in place of its loads and of `Old`; returns the new
    /// index of each of its steps.
    pub fn append(
        &mut self,
        other: &Expr,
        mut leaf: impl FnMut(&mut Expr, Step) -> usize,
    ) -> Vec<usize> {
        let mut at: Vec<usize> = vec![];
        for &step in &other.steps {
            let new = match step {
                Step::Load(_) | Step::Old => leaf(self, step),
                _ => self.push(step.renumbered(|i| at[i])),
            };
            at.push(new);
        }
        at
    }

    pub fn uses_old(&self) -> bool {
        self.steps.contains(&Step::Old)
    }

    /// Its only output is input 0 itself.
    pub fn is_copy(&self) -> bool {
        matches!((&self.steps[..], &self.outs[..]), ([Step::Load(0)], [0]))
    }

    /// Floating-point operations an element, counted as the kernels count theirs.
    pub fn flops(&self) -> u64 {
        let of = |step: &Step| match step {
            Step::Load(_) | Step::Old | Step::Const(_) => 0,
            Step::Binary(..) => 1,
            Step::Value(..) | Step::Slope(..) => 11,
        };
        self.steps.iter().map(of).sum()
    }

    /// Every step for one element, into `values`: the naive form.
    pub fn eval<T: Real>(&self, load: impl Fn(usize) -> T, old: T, values: &mut Vec<T>) {
        values.clear();
        for step in &self.steps {
            let value = match *step {
                Step::Load(k) => load(k),
                Step::Old => old,
                Step::Const(c) => T::of(c.into()),
                Step::Binary(op, a, b) => op.of(values[a], values[b]),
                Step::Value(op, x) => op.value(values[x]),
                Step::Slope(op, x) => op.slope(values[x]),
            };
            values.push(value);
        }
    }

    /// The steps as WGSL lines over the type `Element`; `load` gives the expression of an input.
    pub fn wgsl(&self, load: impl Fn(usize) -> String, old: &str) -> String {
        let mut text = String::new();
        for (i, step) in self.steps.iter().enumerate() {
            let value = match *step {
                Step::Load(k) => load(k),
                Step::Old => old.into(),
                Step::Const(c) => format!("Element({c:?}f)"),
                Step::Binary(BinaryOp::Add, a, b) => format!("s{a} + s{b}"),
                Step::Binary(BinaryOp::Sub, a, b) => format!("s{a} - s{b}"),
                Step::Binary(BinaryOp::Mul, a, b) => format!("s{a} * s{b}"),
                Step::Value(op, x) => format!("{}(s{x})", op.wgsl()),
                Step::Slope(op, x) => format!("{}_slope(s{x})", op.wgsl()),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "    let s{i} = {value};");
        }
        text
    }

    /// The CPU form on one stretch of elements from `start` on, one thread. `inputs` are whole,
    /// `outs` the stretch alone; `n` is the number of all elements.
    pub fn run(&self, n: usize, start: usize, inputs: &[&[f32]], outs: &mut [&mut [f32]]) {
        scratch::with(self.steps.len() * BLOCK, |registers| {
            let len = outs[0].len();
            for at in (0..len).step_by(BLOCK) {
                let range = (at, BLOCK.min(len - at));
                self.block(n, start, inputs, outs, range, registers);
            }
        });
    }

    fn block(
        &self,
        n: usize,
        start: usize,
        inputs: &[&[f32]],
        outs: &mut [&mut [f32]],
        (at, len): (usize, usize),
        registers: &mut [f32],
    ) {
        let first = start + at;
        let mut uniform = [None; MAX_STEPS];
        for (i, step) in self.steps.iter().enumerate() {
            uniform[i] = match *step {
                Step::Load(k) if inputs[k].len() == 1 => Some(inputs[k][0]),
                Step::Const(c) => Some(c),
                Step::Binary(op, a, b) => match (uniform[a], uniform[b]) {
                    (Some(a), Some(b)) => Some(op.of(a, b)),
                    _ => None,
                },
                _ => None,
            };
            let (done, rest) = registers.split_at_mut(i * BLOCK);
            let to = &mut rest[..len];
            let operand = |j: usize| match (uniform[j], self.steps[j]) {
                (Some(v), _) => Operand::Same(v),
                (None, Step::Load(k)) if inputs[k].len() == n => {
                    Operand::Each(&inputs[k][first..][..len])
                }
                _ => Operand::Each(&done[j * BLOCK..][..len]),
            };
            match *step {
                _ if uniform[i].is_some() => {}
                Step::Load(k) if inputs[k].len() == n => {}
                Step::Load(k) => repeat(inputs[k], first, to),
                Step::Old => to.copy_from_slice(&outs[0][at..][..len]),
                Step::Const(_) => {}
                // A step is vectorised by itself: in one function with all of them the compiler
                // leaves some loops out of line, and those would be baseline code.
                Step::Binary(op, a, b) => {
                    let (a, b) = (operand(a), operand(b));
                    vectorised(
                        #[inline(always)]
                        || binary(op, a, b, to),
                    );
                }
                Step::Value(op, x) => {
                    fill(to, operand(x));
                    vectorised(
                        #[inline(always)]
                        || unary::apply(op, to),
                    );
                }
                Step::Slope(op, x) => {
                    fill(to, operand(x));
                    vectorised(
                        #[inline(always)]
                        || unary::apply_slope(op, to),
                    );
                }
            }
        }
        for (out, &j) in outs.iter_mut().zip(&self.outs) {
            let to = &mut out[at..][..len];
            match (uniform[j], self.steps[j]) {
                (Some(v), _) => to.fill(v),
                (None, Step::Load(k)) if inputs[k].len() == n => {
                    to.copy_from_slice(&inputs[k][first..][..len]);
                }
                _ => to.copy_from_slice(&registers[j * BLOCK..][..len]),
            }
        }
    }
}

/// A value of a block: one for every element, or one for each.
#[derive(Clone, Copy)]
enum Operand<'a> {
    Same(f32),
    Each(&'a [f32]),
}

fn fill(to: &mut [f32], from: Operand<'_>) {
    match from {
        Operand::Same(v) => to.fill(v),
        Operand::Each(x) => to.copy_from_slice(x),
    }
}

/// `to[j] = table[(first + j) % len]`.
fn repeat(table: &[f32], first: usize, mut to: &mut [f32]) {
    let mut at = first % table.len();
    while !to.is_empty() {
        let run = to.len().min(table.len() - at);
        let (now, later) = std::mem::take(&mut to).split_at_mut(run);
        now.copy_from_slice(&table[at..][..run]);
        (to, at) = (later, 0);
    }
}

#[inline(always)]
fn binary(op: BinaryOp, a: Operand<'_>, b: Operand<'_>, to: &mut [f32]) {
    match op {
        BinaryOp::Add => zip(a, b, to, |a, b| a + b),
        BinaryOp::Sub => zip(a, b, to, |a, b| a - b),
        BinaryOp::Mul => zip(a, b, to, |a, b| a * b),
    }
}

#[inline(always)]
fn zip(a: Operand<'_>, b: Operand<'_>, to: &mut [f32], f: impl Fn(f32, f32) -> f32) {
    match (a, b) {
        (Operand::Each(a), Operand::Each(b)) => {
            to.iter_mut().zip(a).zip(b).for_each(|((to, &a), &b)| *to = f(a, b));
        }
        (Operand::Same(a), Operand::Each(b)) => {
            to.iter_mut().zip(b).for_each(|(to, &b)| *to = f(a, b));
        }
        (Operand::Each(a), Operand::Same(b)) => {
            to.iter_mut().zip(a).for_each(|(to, &a)| *to = f(a, b));
        }
        (Operand::Same(a), Operand::Same(b)) => to.fill(f(a, b)),
    }
}

/// Inputs and outputs of a launch whose first `inputs` bindings are read and whose others are
/// written.
pub fn operands<'io, T>(
    binds: &'io mut [super::Bind<'_, T>],
    inputs: usize,
) -> ([&'io [T]; MAX_BINDS], [&'io mut [T]; MAX_OUTS]) {
    let (mut read, mut written): ([&[T]; MAX_BINDS], [&mut [T]; MAX_OUTS]) = Default::default();
    for (i, bind) in binds.iter_mut().enumerate() {
        match bind {
            super::Bind::In(x) if i < inputs => read[i] = x,
            super::Bind::Out(y) if i >= inputs => written[i - inputs] = y,
            _ => {}
        }
    }
    (read, written)
}
