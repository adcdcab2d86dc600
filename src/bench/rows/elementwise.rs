//! The rest: losses, activations, sums, the optimiser, resampling, tokens.

use super::{Row, fills};
use crate::kernels::adamw::AdamW;
use crate::kernels::binary::{Binary, BinaryOp};
use crate::kernels::copy::Copy;
use crate::kernels::draw_tokens::DrawTokens;
use crate::kernels::mask_tokens::MaskTokens;
use crate::kernels::softmax_ce::{SoftmaxCe, SoftmaxCeBwd};
use crate::kernels::softmax_rows::SoftmaxRows;
use crate::kernels::unary::{Activation, Unary};
use crate::kernels::upsample2x::{Upsample2x, Upsample2xBwd};
use crate::kernels::{ColSum, Fill, StepScalars, SumPartials};

/// Elements a check takes: a multiple of 64, more than one chunk or workgroup.
const FEW: usize = 64 * 1025;

fn maps(n: usize) -> Vec<Row> {
    let few = n.min(FEW);
    let detail = format!("n={n}");
    let silu = |n, backward| Unary { op: Activation::Silu, n, backward, accum: false };
    let add = |n, b_len| Binary { op: BinaryOp::Add, n, b_len, accum: false, alpha: 1.0 };
    let inputs = |n| vec![Fill::normal(); n];
    let copy = |n| Copy { n, accum: false };
    vec![
        Row::new(&detail, copy(n), copy(few), fills(inputs(1), 1)),
        Row::new(&format!("silu {detail}"), silu(n, false), silu(few, false), fills(inputs(1), 1)),
        Row::new(
            &format!("silu backward {detail}"),
            silu(n, true),
            silu(few, true),
            fills(inputs(2), 1),
        ),
        Row::new(&format!("add {detail}"), add(n, n), add(few, few), fills(inputs(2), 1)),
        Row::new(&format!("add bias 64 {detail}"), add(n, 64), add(few, 64), fills(inputs(2), 1)),
    ]
}

fn sums(rows: usize, cols: usize, splits: usize, n: usize) -> Vec<Row> {
    let columns = |rows| ColSum { rows, ..ColSum::new(rows, cols) };
    let partials = |n| SumPartials { splits, n, accum: false };
    vec![
        Row::new(
            &format!("{rows}x{cols}"),
            columns(rows),
            columns(rows.min(300)),
            fills([Fill::normal()], 1),
        ),
        Row::new(
            &format!("{splits}x{n}"),
            partials(n),
            partials(n.min(1028)),
            fills([Fill::normal()], 1),
        ),
    ]
}

fn cross_entropy(rows: usize, k: usize) -> Vec<Row> {
    let few = rows.min(41);
    let detail = format!("{rows}x{k}");
    let logits = || Fill::Normal { mean: 0.0, std: 2.0 };
    let targets = || vec![logits(), Fill::Index(k as u32), Fill::Uniform(0.5, 1.0)];
    // The logarithm of a sum over k exponentials lies above ln(k).
    let lse = (k as f32).ln();
    let backward = [targets(), vec![Fill::Uniform(lse + 1.0, lse + 3.0), Fill::normal()]].concat();
    vec![
        Row::new(&detail, SoftmaxCe { rows, k }, SoftmaxCe { rows: few, k }, fills(targets(), 2)),
        Row::new(
            &detail,
            SoftmaxCeBwd { rows, k, accum: false },
            SoftmaxCeBwd { rows: few, k, accum: false },
            fills(backward, 1),
        ),
        Row::new(
            &detail,
            SoftmaxRows { rows, k, log: false },
            SoftmaxRows { rows: few, k, log: false },
            fills([logits()], 1),
        ),
    ]
}

fn adamw(n: usize) -> Row {
    let step = StepScalars {
        lr: 3e-4,
        bias1: 1.0 / (1.0 - 0.9f32.powi(3)),
        bias2: 1.0 / (1.0 - 0.96f32.powi(3)),
        ema_decay: 0.999,
        ..StepScalars::default()
    };
    let kernel = |n| AdamW { n, beta1: 0.9, beta2: 0.96, eps: 1e-8, weight_decay: 0.01, ema: true };
    // g, which elements decay, control words, p, m, v and the average.
    let mut inputs = vec![Fill::normal(), Fill::Ints(0, 1), Fill::F32(vec![1.0, 1.0, 1.0, 0.0])];
    inputs.extend([Fill::normal(), Fill::normal(), Fill::Uniform(0.5, 2.0), Fill::normal()]);
    Row::new(&format!("n={n} ema"), kernel(n), kernel(n.min(FEW)), inputs).with_step(step)
}

fn upsample(n: usize, size: usize, c: usize) -> Vec<Row> {
    let (h, w) = (size, size);
    let detail = format!("{size}x{size}x{c} batch {n}");
    let input = || fills([Fill::normal()], 1);
    let forward = |n| Upsample2x { n, h, w, c };
    let backward = |n| Upsample2xBwd { n, h, w, c, accum: false };
    vec![
        Row::new(&detail, forward(n), forward(1), input()),
        Row::new(&detail, backward(n), backward(1), input()),
    ]
}

fn tokens(rows: usize, k: usize, batch: usize, len: usize) -> Vec<Row> {
    let step = StepScalars { step: 3, seed_lo: 77, guidance: 2.0, ..StepScalars::default() };
    let draw = |rows| DrawTokens { rows, k, guided: true };
    let mask = |batch| MaskTokens { batch, len, mask_token: k as u32 };
    let logits = Fill::Normal { mean: 1.0, std: 3.0 };
    let noise = [Fill::Index(k as u32), Fill::Uniform(0.0, 1.0), Fill::normal()];
    vec![
        Row::new(&format!("guided {rows}x{k}"), draw(rows), draw(rows.min(41)), fills([logits], 3))
            .near_ties()
            .with_step(step),
        Row::new(&format!("{batch}x{len}"), mask(batch), mask(batch.min(3)), fills(noise, 2))
            .with_step(step),
    ]
}

pub fn rows() -> Vec<Row> {
    let mut rows = vec![];
    rows.extend(maps(1 << 16).into_iter().map(|r| r.small(true)));
    rows.extend(maps(16 * 64 * 64 * 64));
    rows.extend(sums(2048, 64, 16, 4096).into_iter().map(|r| r.small(true)));
    rows.extend(sums(65_536, 64, 128, 36_864));
    rows.extend(cross_entropy(128, 512).into_iter().map(|r| r.small(true)));
    rows.extend(cross_entropy(2048, 512));
    rows.extend(cross_entropy(2048, 8192));
    rows.push(adamw(1 << 16).small(true));
    rows.push(adamw(1 << 22));
    rows.extend(upsample(2, 16, 16).into_iter().map(|r| r.small(true)));
    rows.extend(upsample(16, 32, 64));
    rows.extend(tokens(64, 512, 4, 64).into_iter().map(|r| r.small(true)));
    rows.extend(tokens(2048, 512, 256, 256));
    rows
}
