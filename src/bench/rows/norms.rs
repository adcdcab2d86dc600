//! Group norm and layer norm, forward and backward.

use super::{Row, fills};
use crate::kernels::Fill;
use crate::kernels::group_norm::{GroupNorm, GroupNormShape};
use crate::kernels::group_norm_bwd::GroupNormBwd;
use crate::kernels::group_norm_bwd_sums::GroupNormBwdSums;
use crate::kernels::group_norm_stats::GroupNormStats;
use crate::kernels::layer_norm::{LayerNorm, LayerNormShape, NormMode};
use crate::kernels::layer_norm_bwd::{LayerNormBwd, LayerNormBwdParams};

/// A mean and a reciprocal standard deviation, both near 1.
fn stats() -> Fill {
    Fill::Uniform(0.5, 1.5)
}

fn group_norm(n: usize, hw: usize, c: usize, groups: usize, silu: bool) -> Vec<Row> {
    let shape = GroupNormShape { n, hw, c, groups, eps: 1e-6, silu };
    let few = GroupNormShape { n: 1, ..shape.clone() };
    let silu = if silu { "silu " } else { "" };
    let detail = format!("{silu}{hw}x{c} groups {groups} batch {n}");
    let x = || Fill::Normal { mean: 0.0, std: 2.0 };
    let affine = || vec![x(), stats(), Fill::normal(), Fill::normal()];
    let backward = || [affine(), vec![Fill::normal()]].concat();
    vec![
        Row::new(
            &detail,
            GroupNormStats { shape: shape.clone() },
            GroupNormStats { shape: few.clone() },
            fills([x()], 1),
        ),
        Row::new(
            &detail,
            GroupNorm { shape: shape.clone() },
            GroupNorm { shape: few.clone() },
            fills(affine(), 1),
        ),
        Row::new(
            &detail,
            GroupNormBwdSums { shape: shape.clone() },
            GroupNormBwdSums { shape: few.clone() },
            fills(backward(), 1),
        ),
        Row::new(
            &detail,
            GroupNormBwd { shape, accum: false },
            GroupNormBwd { shape: few, accum: false },
            fills([backward(), vec![Fill::Normal { mean: 0.0, std: 5.0 }]].concat(), 1),
        ),
    ]
}

fn layer_norm(rows: usize, c: usize) -> Vec<Row> {
    let shape = LayerNormShape { rows, c, eps: 1e-6, centred: true, mode: NormMode::Affine };
    let few = LayerNormShape { rows: rows.min(130), ..shape.clone() };
    let detail = format!("{rows}x{c}");
    let x = || Fill::Normal { mean: 0.3, std: 2.0 };
    vec![
        Row::new(
            &detail,
            LayerNorm { shape: shape.clone() },
            LayerNorm { shape: few.clone() },
            fills([x(), Fill::normal(), Fill::normal()], 2),
        ),
        Row::new(
            &detail,
            LayerNormBwd { shape: shape.clone(), accum: false },
            LayerNormBwd { shape: few.clone(), accum: false },
            fills([x(), stats(), Fill::normal(), Fill::normal()], 1),
        ),
        Row::new(
            &detail,
            LayerNormBwdParams { shape, accum: false },
            LayerNormBwdParams { shape: few, accum: false },
            fills([x(), stats(), Fill::normal()], 1),
        ),
    ]
}

pub fn rows() -> Vec<Row> {
    let mut rows = vec![];
    rows.extend(group_norm(2, 256, 32, 8, true).into_iter().map(|r| r.small(true)));
    rows.extend(group_norm(16, 4096, 64, 32, true));
    // Before attention there is no activation; the statistics are the same.
    rows.extend(group_norm(16, 4096, 64, 32, false).into_iter().skip(1));
    rows.extend(group_norm(16, 256, 256, 32, true));
    rows.extend(layer_norm(256, 256).into_iter().map(|r| r.small(true)));
    rows.extend(layer_norm(16_384, 256));
    rows
}
