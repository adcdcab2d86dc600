//! Matrix products and attention.

use super::{Row, fills};
use crate::kernels::attention::{Attention, AttentionShape};
use crate::kernels::attention_bwd::{AttentionBwdKv, AttentionBwdQ, AttentionDelta};
use crate::kernels::unary::Activation;
use crate::kernels::{Fill, Matmul};

/// Rows that the check multiplies: more than a tile, and not a multiple of one. A multiple of 4, so
/// that a transposed operand keeps its vector loads.
const CHECKED_ROWS: usize = 68;

/// The check keeps k and n, so it runs the same shader.
fn product(kernel: Matmul) -> Row {
    let Matmul { m, k, n, ta, tb, bias, .. } = kernel;
    let rows = CHECKED_ROWS.min(m).min(160_000_000 / (2 * k * n)).next_multiple_of(4);
    let mut detail = format!("{m}x{k}x{n}");
    for (set, word) in [(ta, " a transposed"), (tb, " b transposed"), (bias, " bias silu")] {
        detail.push_str(if set { word } else { "" });
    }
    let inputs = vec![Fill::normal(); 2 + usize::from(bias)];
    Row::new(&detail, kernel.clone(), Matmul { m: rows.min(m), ..kernel }, fills(inputs, 1))
}

/// The parts of attention's forward and backward pass, checked on one short sequence.
fn attention(batch: usize, heads: usize, lq: usize, lk: usize, d: usize) -> Vec<Row> {
    let shape = AttentionShape { batch, heads, lq, lk, d, scale: 1.0 / (d as f32).sqrt() };
    let few =
        AttentionShape { batch: 1, heads: 2, lq: lq.min(40), lk: lk.min(70), ..shape.clone() };
    let detail = match lq == lk {
        true => format!("batch {batch} heads {heads} {lq}x{d}"),
        false => format!("batch {batch} heads {heads} {lq}x{d} over {lk}"),
    };
    let tokens = |n: usize| vec![Fill::normal(); n];
    // The logarithm of a sum over lk exponentials lies above ln(lk).
    let lse = (lk as f32).ln();
    let backward = || [tokens(4), vec![Fill::Uniform(lse, lse + 1.0), Fill::normal()]].concat();
    macro_rules! row {
        ($kernel:ident { $($field:tt)* }, $inputs:expr, $outputs:expr) => {{
            let of = |shape| $kernel { shape, $($field)* };
            let (timed, check) = (of(shape.clone()), of(few.clone()));
            Row::new(&detail, timed, check, fills($inputs, $outputs))
        }};
    }
    vec![
        row!(Attention { causal: false }, tokens(3), 2),
        row!(AttentionDelta {}, tokens(2), 1),
        row!(AttentionBwdKv {}, backward(), 2),
        row!(AttentionBwdQ {}, backward(), 1),
    ]
}

pub fn rows() -> Vec<Row> {
    let mut rows = vec![
        product(Matmul::new(128, 128, 128)).small(true),
        product(Matmul { tb: true, ..Matmul::new(128, 128, 128) }).small(true),
    ];
    for size in [512, 1024, 2048] {
        rows.push(product(Matmul::new(size, size, size)));
    }
    rows.push(product(Matmul { ta: true, ..Matmul::new(1024, 1024, 1024) }));
    rows.push(product(Matmul { tb: true, ..Matmul::new(1024, 1024, 1024) }));
    // Tall: pixels or tokens by channels. Skinny: many summands, few results; a handful of rows.
    for (m, k, n) in [(65_536, 64, 64), (16_384, 64, 512), (64, 16_384, 64), (8, 1024, 1024)] {
        rows.push(product(Matmul::new(m, k, n)));
    }
    let mlp = Matmul { bias: true, act: Some(Activation::Silu), ..Matmul::new(2048, 256, 1024) };
    rows.push(product(mlp));
    rows.extend(attention(2, 2, 64, 64, 32).into_iter().map(|r| r.small(true)));
    rows.extend(attention(8, 8, 256, 256, 32));
    rows.extend(attention(8, 8, 256, 256, 64));
    rows.extend(attention(8, 8, 256, 16, 64));
    rows
}
