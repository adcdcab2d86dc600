//! Linear operations and their gradients: <A x, y> = <x, A' y>. Inputs are small integers, so both
//! sides are exact and must be equal, whichever form or variant computes them.

use crate::{device, registry};
use vqforge::device::Device;
use vqforge::kernels::binary::{Binary, BinaryOp};
use vqforge::kernels::code_sums::CodeSums;
use vqforge::kernels::columns::Columns;
use vqforge::kernels::gather::Gather;
use vqforge::kernels::mean_pool::{MeanPool, MeanPoolBwd};
use vqforge::kernels::scale_by::ScaleBy;
use vqforge::kernels::sum_all::{SumAll, SumOp};
use vqforge::kernels::sum_finish::SumFinish;
use vqforge::kernels::upsample2x::{Upsample2x, Upsample2xBwd};
use vqforge::kernels::{
    Case, ColSum, Conv2d, Conv2dDgrad, Conv2dWgrad, ConvShape, Fill, Kernel, Matmul, SumPartials,
};

/// A device, and numbers to draw from.
struct Bench<'d> {
    device: &'d mut dyn Device,
    seed: u64,
    /// Launches so far.
    turn: usize,
}

impl Bench<'_> {
    /// Integers in -3..=3, other ones each time.
    fn draw(&mut self, len: usize) -> Vec<f32> {
        self.seed += 1;
        Fill::Ints(-3, 3).bits(len, self.seed).into_iter().map(f32::from_bits).collect()
    }

    /// The last binding after a launch on `inputs`. A variant of the kernel must give it too: one a
    /// launch, in turn, for compiling all of them for every shape takes a software adapter minutes.
    fn run(&mut self, kernel: impl Kernel + 'static, inputs: &[Fill]) -> Vec<f32> {
        let out = kernel.lens().len() - inputs.len();
        let fills = inputs.iter().cloned().chain(vec![Fill::Poison; out]).collect();
        let mut case = Case::new("adjoint", kernel, fills).exact();
        let bits = registry::inputs(&case);
        let mut variants = case.kernel.variants(self.device.caps());
        let mut last =
            |case: &Case| registry::on_device(self.device, case, &bits).pop().expect("a binding");
        let words = last(&case);
        self.turn += 1;
        if !variants.is_empty() {
            case.kernel = variants.swap_remove(self.turn % variants.len());
            assert_eq!(last(&case), words, "{:?}", case.kernel);
        }
        words.into_iter().map(f32::from_bits).collect()
    }
}

fn f(values: &[f32]) -> Fill {
    Fill::F32(values.to_vec())
}

/// <a, b> in f64, which holds it exactly: every product is below 2^24 in size, or a power of two
/// below, and there are fewer than 2^20 of them.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

#[track_caller]
fn equal(what: impl std::fmt::Display, forward: f64, backward: f64) {
    assert!(forward == backward, "{what}: <Ax, y> = {forward}, <x, A'y> = {backward}");
    assert!(forward != 0.0, "{what}: both are 0, which proves little");
}

fn on_devices(test: impl Fn(&mut Bench<'_>)) {
    device::on_devices(|device| test(&mut Bench { device, seed: 0, turn: 0 }));
}

#[test]
fn convolution() {
    let s = |(n, h, w), (cin, cout), (kh, kw), stride, pad| ConvShape {
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
    let shapes = [
        s((2, 5, 7), (3, 5), (3, 3), 1, [1, 1, 1, 1]),
        s((2, 9, 8), (8, 12), (3, 3), 2, [0, 1, 0, 1]),
        s((1, 11, 6), (4, 4), (4, 4), 2, [1, 1, 1, 1]),
        s((1, 7, 10), (2, 3), (2, 5), 3, [2, 0, 1, 3]),
        s((2, 41, 3), (1, 7), (1, 1), 1, [0; 4]),
        s((1, 9, 9), (4, 8), (1, 1), 2, [0; 4]),
        s((1, 40, 30), (4, 4), (3, 3), 1, [1, 1, 1, 1]),
    ];
    on_devices(|bench| {
        for shape in shapes {
            let [x, w, y] = [shape.x_len(), shape.w_len(), shape.y_len()].map(|n| bench.draw(n));
            let forward = bench.run(Conv2d { shape, bias: false }, &[f(&x), f(&w)]);
            let dx = bench.run(Conv2dDgrad { shape, accum: false }, &[f(&y), f(&w)]);
            let dgrad = Conv2dWgrad::new(shape);
            let (splits, n) = (dgrad.splits, shape.w_len());
            let partials = bench.run(dgrad, &[f(&x), f(&y)]);
            let dw = bench.run(SumPartials { splits, n, accum: false }, &[f(&partials)]);
            let product = dot(&forward, &y);
            equal(format_args!("x of {shape:?}"), product, dot(&x, &dx));
            equal(format_args!("w of {shape:?}"), product, dot(&w, &dw));
        }
    });
}

/// y = a w for every order of storage; the gradients are products again.
#[test]
fn matrix_product() {
    on_devices(|bench| {
        for (batch, m, k, n) in [(1, 41, 47, 55), (1, 64, 16, 64), (3, 7, 65, 12)] {
            for (ta, tb) in [(false, false), (false, true), (true, false), (true, true)] {
                let of = |m, k, n, ta, tb| Matmul {
                    batch,
                    batched_b: batch > 1,
                    ta,
                    tb,
                    ..Matmul::new(m, k, n)
                };
                let [a, w, y] = [m * k, k * n, m * n].map(|len| bench.draw(batch * len));
                let forward = bench.run(of(m, k, n, ta, tb), &[f(&a), f(&w)]);
                // Each gradient in its operand's own order of storage: da = y w', dw = a' y.
                let da = match ta {
                    false => bench.run(of(m, n, k, false, !tb), &[f(&y), f(&w)]),
                    true => bench.run(of(k, n, m, tb, true), &[f(&w), f(&y)]),
                };
                let dw = match tb {
                    false => bench.run(of(k, m, n, !ta, false), &[f(&a), f(&y)]),
                    true => bench.run(of(n, m, k, true, ta), &[f(&y), f(&a)]),
                };
                let (product, what) = (dot(&forward, &y), format!("{m}x{k}x{n} {ta} {tb}"));
                equal(format_args!("a of {what}"), product, dot(&a, &da));
                equal(format_args!("w of {what}"), product, dot(&w, &dw));
            }
        }
    });
}

#[test]
fn upsampling() {
    on_devices(|bench| {
        for (n, h, w, c) in [(1, 1, 1, 1), (2, 5, 7, 3), (1, 6, 4, 8)] {
            let (x, y) = (bench.draw(n * h * w * c), bench.draw(4 * n * h * w * c));
            let up = bench.run(Upsample2x { n, h, w, c }, &[f(&x)]);
            let down = bench.run(Upsample2xBwd { n, h, w, c, accum: false }, &[f(&y)]);
            equal("upsample2x", dot(&up, &y), dot(&x, &down));
        }
    });
}

/// Rows of a table, and their sums by index.
#[test]
fn lookup() {
    on_devices(|bench| {
        for (n, rows, d) in [(41, 7, 3), (300, 130, 8), (513, 5, 61)] {
            let (table, y) = (bench.draw(rows * d), bench.draw(n * d));
            let idx = Fill::U32(Fill::Index(rows as u32).bits(n, 9));
            let taken = bench.run(Gather { n, rows, d }, &[idx.clone(), f(&table)]);
            let sums = bench.run(CodeSums { n, k: rows, d, accum: false }, &[idx, f(&y)]);
            equal("gather", dot(&taken, &y), dot(&table, &sums));
        }
    });
}

/// Means over 2^k positions are exact.
#[test]
fn pooling() {
    on_devices(|bench| {
        for (n, hw, c) in [(1, 1, 5), (3, 16, 41), (2, 64, 4)] {
            let (x, y) = (bench.draw(n * hw * c), bench.draw(n * c));
            let mean = bench.run(MeanPool { n, hw, c }, &[f(&x)]);
            let spread = bench.run(MeanPoolBwd { n, hw, c, accum: false }, &[f(&y)]);
            equal("mean_pool", dot(&mean, &y), dot(&x, &spread));
        }
    });
}

/// Sums over columns, partials and whole tensors; their gradients repeat.
#[test]
fn reductions() {
    on_devices(|bench| {
        for (rows, cols) in [(1, 5), (700, 41), (64, 64)] {
            let (x, y) = (bench.draw(rows * cols), bench.draw(cols));
            let kernel = ColSum::new(rows, cols);
            let splits = kernel.splits;
            let partials = bench.run(kernel, &[f(&x)]);
            let sums = bench.run(SumPartials { splits, n: cols, accum: false }, &[f(&partials)]);
            let n = rows * cols;
            let repeat = Binary { op: BinaryOp::Add, n, b_len: cols, accum: false, alpha: 1.0 };
            let repeated = bench.run(repeat, &[f(&vec![0.0; n]), f(&y)]);
            equal("col_sum", dot(&sums, &y), dot(&x, &repeated));
        }
        for (n, partials) in [(1, 1), (1000, 7), (4099, 3)] {
            let (x, y) = (bench.draw(n), [3.0]);
            let kernel = SumAll { n, op: SumOp::Identity, partials, factor: 2.0 };
            let parts = bench.run(kernel, &[f(&x)]);
            let sum = bench.run(SumFinish { p: partials, factor: 1.0, accum: false }, &[f(&parts)]);
            let scale = ScaleBy { n, factor: 2.0, accum: false };
            let repeated = bench.run(scale, &[f(&vec![1.0; n]), f(&y)]);
            equal("sum_all", dot(&sum, &y), dot(&x, &repeated));
        }
    });
}

#[test]
fn columns() {
    on_devices(|bench| {
        for (rows, wide, narrow, at) in
            [(1, 1, 1, 0), (41, 47, 3, 40), (55, 12, 4, 8), (3, 8, 4, 2)]
        {
            let [x, y] = [rows * wide, rows * narrow].map(|n| bench.draw(n));
            let kernel = Columns { rows, wide, narrow, at, pad: false, accum: false };
            let slice = bench.run(kernel.clone(), &[f(&x)]);
            let padded = bench.run(Columns { pad: true, ..kernel.clone() }, &[f(&y)]);
            equal(format_args!("{kernel:?}"), dot(&slice, &y), dot(&x, &padded));
        }
    });
}
