//! Convolutions: forward, data gradient, weight gradient.

use super::{Row, fills};
use crate::kernels::{Conv2d, Conv2dDgrad, Conv2dWgrad, ConvShape, Cost, Fill, Kernel};

/// Multiplications and additions that a naive form carries bounds for in about a second.
const CHECKED_FLOPS: u64 = 80_000_000;

/// `size` x `size` images; stride 2 pads only below and on the right, as the encoder does.
fn shape(n: usize, size: usize, cin: usize, cout: usize, k: usize, stride: usize) -> ConvShape {
    let pad = if stride == 1 { [k / 2; 4] } else { [0, 1, 0, 1] };
    ConvShape { n, h: size, w: size, cin, cout, kh: k, kw: k, stride, pad }
}

/// The three kernels of one layer. The check takes a single image, and a smaller one where that is
/// still too much.
fn layer(s: ConvShape) -> [Row; 3] {
    let single = ConvShape { n: 1, ..s };
    let few = match single.flops() <= CHECKED_FLOPS {
        true => single,
        false => ConvShape { h: 6, w: 11, ..single },
    };
    let ConvShape { n, h, w, cin, cout, kh, kw, stride, .. } = s;
    let strided = if stride == 1 { String::new() } else { format!(" stride {stride}") };
    let detail = format!("{kh}x{kw} {cin}->{cout}{strided} {h}x{w} batch {n}");
    let wgrad = Conv2dWgrad::new(s);
    let splits = wgrad.splits;
    // Partial sums are this implementation's own affair.
    let required = Cost { bytes: Conv2dWgrad { shape: s, splits: 1 }.cost().bytes, ..wgrad.cost() };
    let inputs = |n| vec![Fill::normal(); n];
    [
        Row::new(
            &detail,
            Conv2d { shape: s, bias: true },
            Conv2d { shape: few, bias: true },
            fills(inputs(3), 1),
        ),
        Row::new(
            &detail,
            Conv2dDgrad { shape: s, accum: false },
            Conv2dDgrad { shape: few, accum: false },
            fills(inputs(2), 1),
        ),
        Row::new(&detail, wgrad, Conv2dWgrad { shape: few, splits }, fills(inputs(2), 1))
            .needs(required),
    ]
}

pub fn rows() -> Vec<Row> {
    let mut rows = vec![];
    for s in [
        shape(2, 16, 16, 16, 3, 1),
        shape(4, 16, 32, 32, 1, 1),
        shape(2, 32, 16, 16, 3, 2),
        shape(2, 32, 1, 16, 3, 1),
        shape(2, 32, 16, 1, 3, 1),
    ] {
        rows.extend(layer(s).map(|r| r.small(true)));
    }
    for s in [
        shape(16, 64, 64, 64, 3, 1),
        shape(16, 32, 64, 64, 3, 1),
        shape(16, 16, 64, 64, 3, 1),
        shape(16, 32, 128, 128, 3, 1),
        shape(16, 16, 256, 256, 3, 1),
        shape(16, 32, 128, 128, 1, 1),
        shape(16, 64, 64, 64, 3, 2),
        shape(16, 64, 1, 64, 3, 1),
        shape(16, 64, 64, 1, 3, 1),
    ] {
        rows.extend(layer(s));
    }
    rows
}
