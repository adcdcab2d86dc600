//! A chain of elementwise kernels as one launch: what it computes is an [`Expr`], its shader is
//! generated from it.

use super::binary::BinaryOp;
use super::expr::{Expr, MAX_OUTS, Step, operands};
use super::generated::Generated;
use super::unary::Activation;
use super::{Case, Const, Cost, Fill, Io, Kernel, Real, flag, grid_1d};
use crate::naive_forms;
use std::fmt::Write;

/// Elements of a task on the CPU.
const CHUNK: usize = 16_384;

/// Bindings: the inputs, then the outputs, `n` elements each.
#[derive(Debug, Clone)]
pub struct Fused {
    n: usize,
    /// Elements of each input; they divide n.
    inputs: Vec<usize>,
    expr: Expr,
    wgsl: Generated,
}

impl Fused {
    pub fn new(n: usize, inputs: Vec<usize>, expr: Expr) -> Self {
        let mut fused = Fused { n, inputs, expr, wgsl: Generated(String::new()) };
        fused.wgsl = Generated(fused.text());
        fused
    }

    fn width(&self) -> usize {
        let whole = |len: &usize| *len == 1 || len.is_multiple_of(4);
        if self.n.is_multiple_of(4) && self.inputs.iter().all(whole) { 4 } else { 1 }
    }

    fn text(&self) -> String {
        let bindings = bindings(0, &self.inputs, self.expr.outs.len());
        let steps = self.expr.wgsl(|k| load(k, self.inputs[k], self.n, self.width()), "y0[i]");
        let stores = stores(&self.expr);
        format!(
            "// Generated from {} steps.\n#import flat\n#import element\n#import activations\n\n\
             struct Dims {{ n: u32 }}  // elements, in units of Element\n\
             @group(0) @binding(8) var<uniform> dims: Dims;\n{bindings}\n\
             @compute @workgroup_size(256)\nfn main(\n    \
             @builtin(workgroup_id) group: vec3<u32>,\n    \
             @builtin(num_workgroups) groups: vec3<u32>,\n    \
             @builtin(local_invocation_index) lane: u32,\n) {{\n    \
             let i = flat_group(group, groups) * 256u + lane;\n    \
             if i >= dims.n {{\n        return;\n    }}\n{steps}{stores}}}\n",
            self.expr.steps.len()
        )
    }

    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let (inputs, mut outs) = operands(&mut io.binds, self.inputs.len());
        naive(&self.expr, self.n, &inputs, &mut outs);
    }
}

/// Declarations of inputs `x0..` from binding `first` on, and of outputs `y0..` behind them.
pub(super) fn bindings(first: usize, inputs: &[usize], outs: usize) -> String {
    let mut text = String::new();
    for (k, &len) in inputs.iter().enumerate() {
        let element = if len == 1 { "f32" } else { "Element" };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "@group(0) @binding({}) var<storage, read> x{k}: array<{element}>;",
            first + k
        );
    }
    for j in 0..outs {
        let _ = writeln!(
            text,
            "@group(0) @binding({}) var<storage, read_write> y{j}: array<Element>;",
            first + inputs.len() + j
        );
    }
    text
}

/// Input `k` of `len` elements at element `i` of `n`, `width` of them a vector.
pub(super) fn load(k: usize, len: usize, n: usize, width: usize) -> String {
    match len {
        1 => format!("Element(x{k}[0])"),
        _ if len == n => format!("x{k}[i]"),
        _ => format!("x{k}[i % {}u]", len / width),
    }
}

/// The lines that store the outputs.
pub(super) fn stores(expr: &Expr) -> String {
    expr.outs.iter().enumerate().map(|(j, step)| format!("    y{j}[i] = s{step};\n")).collect()
}

/// Every element in turn.
pub(super) fn naive<T: Real>(
    expr: &Expr,
    n: usize,
    inputs: &[&[T]],
    outs: &mut [&mut [T]; MAX_OUTS],
) {
    let mut values = vec![];
    for i in 0..n {
        expr.eval(|k| inputs[k][i % inputs[k].len()], outs[0][i], &mut values);
        for (out, &step) in outs.iter_mut().zip(&expr.outs) {
            out[i] = values[step];
        }
    }
}

/// The CPU form on all threads: halves down to one chunk.
pub(super) fn run_parallel(
    expr: &Expr,
    n: usize,
    start: usize,
    inputs: &[&[f32]],
    mut outs: [&mut [f32]; MAX_OUTS],
) {
    let len = outs[0].len();
    if len <= CHUNK {
        expr.run(n, start, inputs, &mut outs[..expr.outs.len()]);
        return;
    }
    let half = (len / 2).next_multiple_of(CHUNK);
    let (mut left, mut right): ([&mut [f32]; MAX_OUTS], [&mut [f32]; MAX_OUTS]) =
        Default::default();
    for (j, out) in outs.into_iter().enumerate().take(expr.outs.len()) {
        (left[j], right[j]) = out.split_at_mut(half);
    }
    rayon::join(
        || run_parallel(expr, n, start, inputs, left),
        || run_parallel(expr, n, start + half, inputs, right),
    );
}

impl Kernel for Fused {
    fn name(&self) -> &'static str {
        "fused"
    }
    fn shader(&self) -> &'static str {
        "generated fused"
    }
    fn wgsl(&self) -> &str {
        &self.wgsl
    }
    fn consts(&self) -> Vec<Const> {
        vec![flag("VEC4", self.width() == 4)]
    }
    fn dims(&self) -> Vec<u32> {
        vec![(self.n / self.width()) as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let outs = vec![self.n; self.expr.outs.len()];
        [self.inputs.clone(), outs].concat()
    }
    fn half_ok(&self) -> u32 {
        let tensors = self.lens().into_iter().enumerate().filter(|(_, len)| *len > 1);
        tensors.fold(0, |bits, (i, _)| bits | 1 << i)
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.n / self.width(), 256)
    }
    fn cost(&self) -> Cost {
        let old = if self.expr.uses_old() { self.n } else { 0 };
        let words = self.lens().iter().sum::<usize>() + old;
        Cost { flops: self.expr.flops() * self.n as u64, bytes: 4 * words as u64 }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let (inputs, outs) = operands(&mut io.binds, self.inputs.len());
        run_parallel(&self.expr, self.n, 0, &inputs, outs);
    }
    naive_forms!();
}

/// `(x0 op x1) + x2`, then an activation; the sum is stored too.
pub(super) fn two_outputs(op: BinaryOp, act: Activation) -> Expr {
    let mut expr = Expr::default();
    let loads = [0, 1, 2].map(|k| expr.load(k));
    let first = expr.binary(op, loads[0], loads[1]);
    let sum = expr.binary(BinaryOp::Add, first, loads[2]);
    let value = expr.push(Step::Value(act, sum));
    expr.outs = vec![value, sum];
    expr
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    let fills = |kernel: &Fused, fill: &Fill| {
        let mut fills = vec![fill.clone(); kernel.inputs.len()];
        let old = if kernel.expr.uses_old() { fill.clone() } else { Fill::Poison };
        fills.push(old);
        fills.resize(kernel.lens().len(), Fill::Poison);
        fills
    };
    for (i, act) in Activation::ALL.into_iter().enumerate() {
        for n in [41, 1028] {
            // A scalar, a table that repeats, and a tensor.
            let op = BinaryOp::ALL[i % 3];
            let table = if n == 41 { 1 } else { 257 * 4 / [1, 257][i % 2] };
            let kernel = Fused::new(n, vec![n, table, n], two_outputs(op, act));
            cases.push(Case::new(
                format!("{act:?} of {op:?} n={n} table={table}"),
                kernel.clone(),
                fills(&kernel, &Fill::normal()),
            ));
            let mut slope = Expr::default();
            let (x, dy) = (slope.load(0), slope.load(1));
            let df = slope.push(Step::Slope(act, x));
            let g = slope.binary(BinaryOp::Mul, df, dy);
            let g = slope.scaled(-0.25, g);
            let kernel = Fused::new(n, vec![n, n], slope.store(g, n == 41));
            cases.push(Case::new(
                format!("{act:?} backward, scaled, n={n}"),
                kernel.clone(),
                fills(&kernel, &Fill::normal()),
            ));
        }
    }
    // Exact: 3 x y + z - old repeats of 47, in both widths, over more than one chunk.
    for (n, table) in [(1, 1), (47 * 6, 47), (61 * 900, 61), (64 * 5, 16), (20_000, 1)] {
        let mut expr = Expr::default();
        let [x, y, z] = [0, 1, 2].map(|k| expr.load(k));
        let product = expr.scaled(3.0, x);
        let product = expr.binary(BinaryOp::Mul, product, y);
        let sum = expr.binary(BinaryOp::Sub, product, z);
        let kernel = Fused::new(n, vec![n, table, n], expr.store(sum, true));
        let fills = fills(&kernel, &Fill::Ints(-9, 9));
        cases.push(Case::new(format!("integers n={n} table={table}"), kernel, fills).exact());
    }
    cases
}
