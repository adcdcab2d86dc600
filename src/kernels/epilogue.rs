//! A product (convolution or matrix product) and what is done to each of its results before it is
//! stored, as one launch: bias, then an [`Expr`] of the result, of residuals and of other tensors of
//! its shape. The product's own shader and CPU form are used; they call back for each result.

use super::binary::BinaryOp;
use super::block::{Block, Gemm};
use super::expr::{Expr, MAX_OUTS, Step, operands};
use super::fused::{bindings, load, naive, run_parallel, stores, two_outputs};
use super::generated::Generated;
use super::unary::Activation;
use super::variant::{self, Blocked};
use super::{
    Bind, Caps, Case, Const, Conv2d, ConvShape, Cost, Fill, Io, Kernel, Matmul, Needs, Real, flag,
};
use crate::naive_forms;
use std::sync::Arc;

/// A kernel whose results an expression may follow.
#[derive(Debug, Clone)]
pub enum Product {
    Conv2d(Conv2d),
    Matmul(Matmul),
}

impl Product {
    fn kernel(&self) -> &dyn Blocked {
        match self {
            Product::Conv2d(kernel) => kernel,
            Product::Matmul(kernel) => kernel,
        }
    }

    /// Elements of the result.
    pub fn elements(&self) -> usize {
        match self {
            Product::Conv2d(kernel) => kernel.shape.y_len(),
            Product::Matmul(kernel) => kernel.batch * kernel.m * kernel.n,
        }
    }

    /// Elements of a vector of columns in the shader.
    fn width(&self) -> usize {
        let columns = match self {
            Product::Conv2d(kernel) => kernel.shape.cout,
            Product::Matmul(kernel) => kernel.n,
        };
        if columns.is_multiple_of(4) { 4 } else { 1 }
    }

    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        match self {
            Product::Conv2d(kernel) => kernel.naive(io),
            Product::Matmul(kernel) => kernel.naive(io),
        }
    }

    fn compute(
        &self,
        [a, w, bias]: [&[f32]; 3],
        y: &mut [f32],
        then: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        match self {
            Product::Conv2d(k) => k.compute((a, w, k.bias.then_some(bias), y), then),
            Product::Matmul(k) => k.compute((a, w, k.bias.then_some(bias), y), then),
        }
    }
}

/// Bindings: the product's inputs, the expression's inputs, the outputs. [`Step::Old`] stands for the
/// product's result.
#[derive(Debug, Clone)]
pub struct Epilogue {
    product: Product,
    /// Elements of each further input; they divide those of the result.
    extras: Vec<usize>,
    expr: Expr,
    wgsl: Generated,
}

impl Epilogue {
    pub fn new(product: Product, extras: Vec<usize>, expr: Expr) -> Self {
        let mut epilogue = Epilogue { product, extras, expr, wgsl: Generated(String::new()) };
        epilogue.wgsl = Generated(epilogue.text());
        epilogue
    }

    /// Inputs of the product alone: two factors and a bias, if any.
    fn own(&self) -> usize {
        2 + usize::from(match &self.product {
            Product::Conv2d(kernel) => kernel.bias,
            Product::Matmul(kernel) => kernel.bias,
        })
    }

    fn text(&self) -> String {
        let (n, width) = (self.product.elements(), self.product.width());
        let bindings = bindings(self.own(), &self.extras, self.expr.outs.len());
        let steps = self.expr.wgsl(|k| load(k, self.extras[k], n, width), "result");
        let alias = match &self.product {
            Product::Matmul(Matmul { act: Some(_), .. }) => "",
            _ => "alias Element = Columns;\n",
        };
        format!(
            "{}\n// Generated from {} steps.\n{alias}#import activations\n{bindings}\n\
             fn epilogue(i: u32, result: Columns) {{\n{steps}{}}}\n",
            self.product.kernel().wgsl(),
            self.expr.steps.len(),
            stores(&self.expr)
        )
    }

    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let (own, n) = (self.own(), self.product.elements());
        let (inputs, mut outs) = operands(&mut io.binds, own + self.extras.len());
        let mut product = Io::<T>::new(io.step);
        for (bind, x) in product.binds.iter_mut().zip(&inputs[..own]) {
            *bind = Bind::In(x);
        }
        product.binds[own] = Bind::Out(&mut *outs[0]);
        self.product.naive(&mut product);
        naive(&self.expr, n, &inputs[own..], &mut outs);
    }
}

/// The constants of a product that is followed by an expression.
fn followed(mut consts: Vec<Const>) -> Vec<Const> {
    for (name, value) in &mut consts {
        if *name == "EPILOGUE" {
            *value = flag("EPILOGUE", true).1;
        }
    }
    consts
}

impl Blocked for Epilogue {
    fn gemm(&self) -> Gemm {
        self.product.kernel().gemm()
    }
    fn consts_by(&self, block: Block) -> Vec<Const> {
        followed(self.product.kernel().consts_by(block))
    }
    fn dims_by(&self, block: Block) -> Vec<u32> {
        self.product.kernel().dims_by(block)
    }
    fn grid_by(&self, block: Block) -> [u32; 3] {
        self.product.kernel().grid_by(block)
    }
}

impl Kernel for Epilogue {
    fn name(&self) -> &'static str {
        match self.product {
            Product::Conv2d(_) => "conv2d_epilogue",
            Product::Matmul(_) => "matmul_epilogue",
        }
    }
    /// The product's, which the generated lines follow.
    fn shader(&self) -> &'static str {
        self.product.kernel().shader()
    }
    fn wgsl(&self) -> &str {
        &self.wgsl
    }
    fn consts(&self) -> Vec<Const> {
        followed(self.product.kernel().consts())
    }
    fn dims(&self) -> Vec<u32> {
        self.product.kernel().dims()
    }
    fn lens(&self) -> Vec<usize> {
        let mut lens = self.product.kernel().lens();
        lens.pop();
        lens.extend(&self.extras);
        lens.resize(lens.len() + self.expr.outs.len(), self.product.elements());
        lens
    }
    fn half_ok(&self) -> u32 {
        let own = self.product.kernel().half_ok() & ((1 << self.own()) - 1);
        let lens = self.lens().into_iter().enumerate();
        let tensors = lens.filter(|(i, len)| *i >= self.own() && *len > 1);
        tensors.fold(own, |bits, (i, _)| bits | 1 << i)
    }
    fn grid(&self) -> [u32; 3] {
        self.product.kernel().grid()
    }
    fn cost(&self) -> Cost {
        let n = self.product.elements() as u64;
        let words: usize = self.lens().iter().sum();
        let flops = self.product.kernel().cost().flops + n * self.expr.flops();
        Cost { flops, bytes: 4 * words as u64 }
    }
    fn needs(&self) -> Needs {
        self.product.kernel().needs()
    }
    fn variant(&self) -> String {
        self.product.kernel().variant()
    }
    fn variants(&self, caps: &Caps) -> Vec<Arc<dyn Kernel>> {
        variant::variants(self, caps)
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let (own, n) = (self.own(), self.product.elements());
        let (inputs, outs) = operands(&mut io.binds, own + self.extras.len());
        let (factors, extras) = inputs.split_at(own);
        let factors = std::array::from_fn(|i| factors.get(i).copied().unwrap_or_default());
        if self.expr.outs.len() == 1 {
            // While the stretch is in the cache.
            let then = |at: usize, y: &mut [f32]| self.expr.run(n, at, extras, &mut [y]);
            self.product.compute(factors, outs[0], then);
        } else {
            self.product.compute(factors, outs[0], |_, _| {});
            run_parallel(&self.expr, n, 0, extras, outs);
        }
    }
    naive_forms!();
}

/// The expressions of the cases, with the length of each of their inputs for `n` results.
fn expressions(n: usize, columns: usize) -> Vec<(&'static str, Vec<usize>, Expr)> {
    let residual = || {
        let mut expr = Expr::default();
        let (old, x) = (expr.push(Step::Old), expr.load(0));
        let sum = expr.binary(BinaryOp::Add, x, old);
        expr.store(sum, false)
    };
    let mut kept = Expr::old();
    let value = kept.push(Step::Value(Activation::GeluTanh, 0));
    kept.outs = vec![value, 0];
    let mut slope = Expr::default();
    let (old, x) = (slope.push(Step::Old), slope.load(0));
    let df = slope.push(Step::Slope(Activation::GeluTanh, x));
    let dx = slope.binary(BinaryOp::Mul, df, old);
    let slope = slope.store(dx, false);
    // The result as one of three summands.
    let mut many = Expr::default();
    let chain = two_outputs(BinaryOp::Mul, Activation::Silu);
    many.outs = many
        .append(&chain, |expr, step| match step {
            Step::Load(1) => expr.push(Step::Old),
            Step::Load(2) => expr.load(1),
            other => expr.push(other),
        })
        .into_iter()
        .rev()
        .take(2)
        .collect();
    let mut activated = Expr::old();
    let value = activated.push(Step::Value(Activation::Silu, 0));
    vec![
        ("residual", vec![n], residual()),
        ("repeated table", vec![columns], residual()),
        ("SiLU", vec![], activated.store(value, false)),
        ("GELU, sum kept", vec![], kept),
        ("GELU backward", vec![n], slope),
        ("scalar, residual, SiLU, sum kept", vec![1, n], many),
    ]
}

fn cases(product: &Product, columns: usize, exact: bool) -> Vec<Case> {
    let n = product.elements();
    let mut cases = vec![];
    for (name, extras, expr) in expressions(n, columns) {
        let kernel = Epilogue::new(product.clone(), extras, expr);
        let linear = name == "residual" || name == "repeated table";
        let outs = kernel.expr.outs.len();
        debug_assert!(outs <= MAX_OUTS);
        let fills = |fill: Fill| {
            let mut fills = vec![fill; kernel.lens().len() - outs];
            fills.resize(fills.len() + outs, Fill::Poison);
            fills
        };
        let size = match product {
            Product::Conv2d(kernel) => format!("{:?} bias={}", kernel.shape, kernel.bias),
            Product::Matmul(kernel) => format!("{kernel:?}"),
        };
        let name = format!("{name}, {size}");
        cases.push(if exact && linear {
            Case::new(name, kernel.clone(), fills(Fill::Ints(-3, 3))).exact()
        } else {
            Case::new(name, kernel.clone(), fills(Fill::normal()))
        });
    }
    cases
}

/// Bands, images and rows of blocks that end inside, in both widths.
pub fn conv2d_cases() -> Vec<Case> {
    let s = |n, (h, w), (cin, cout), k, pad| ConvShape {
        n,
        h,
        w,
        cin,
        cout,
        kh: k,
        kw: k,
        stride: 1,
        pad: [pad; 4],
    };
    let shapes = [
        s(1, (1, 1), (1, 1), 1, 0),
        s(2, (5, 7), (3, 41), 3, 1),
        s(2, (9, 23), (4, 68), 3, 1),
        s(3, (7, 11), (8, 12), 1, 0),
    ];
    let mut all = vec![];
    for (i, shape) in shapes.into_iter().enumerate() {
        let product = Product::Conv2d(Conv2d { shape, bias: i % 2 == 0 });
        all.extend(cases(&product, shape.cout, i != 2));
    }
    all
}

pub fn matmul_cases() -> Vec<Case> {
    let mut all = vec![];
    let sizes = [(1, 1, 1), (63, 15, 65), (97, 20, 36), (200, 47, 12)];
    for (i, (m, k, n)) in sizes.into_iter().enumerate() {
        let product = Matmul { tb: i % 2 == 1, bias: i % 2 == 0, ..Matmul::new(m, k, n) };
        all.extend(cases(&Product::Matmul(product), n, i != 1));
    }
    let act = Some(Activation::Relu);
    let batched = Matmul { batch: 3, ta: true, batched_b: true, act, ..Matmul::new(66, 20, 36) };
    all.extend(cases(&Product::Matmul(batched), 36, false));
    all
}
