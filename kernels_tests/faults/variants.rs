//! Faults in what only variants are made of: a baseline that notices its own says nothing of them.

use super::shaders::{Fault, in_variant};

/// Beginnings of the names of variants: of one subgroup; with subgroup operations in reductions; by
/// cooperative matrices; an invocation a row.
const ONE_SUBGROUP: &str = "subgroup of";
const SUBGROUPS: &str = "subgroup";
const MATRICES: &str = "coop";
const SHORT: &str = "short rows";

pub(super) const VARIANTS: &[Fault] = &[
    in_variant(
        ONE_SUBGROUP,
        "one summand of four, four times",
        &["matmul", "conv2d"],
        "sum_$x_$y_$p += a_$x_$y[$j] * b_$p_$j;",
        "sum_$x_$y_$p += a_$x_$y[$j] * b_$p_0;",
    ),
    in_variant(
        ONE_SUBGROUP,
        "one summand of four, four times, of narrow outputs",
        &["matmul"],
        "sum_$r_$c += a_$r_$q[$j] * b_$c_$q_$j;",
        "sum_$r_$c += a_$r_$q[$j] * b_$c_$q_0;",
    ),
    in_variant(
        MATRICES,
        "last summands dropped",
        &["matmul", "conv2d", "conv2d_dgrad"],
        "kb < k_end; kb += BK",
        "kb + BK <= k_end; kb += BK",
    ),
    in_variant(
        MATRICES,
        "right factor transposed",
        &["matmul"],
        "f32(factors[column + k * right.row])",
        "f32(factors[column + k * right.column])",
    ),
    in_variant(
        MATRICES,
        "a neighbour's factor",
        &["matmul"],
        "factors[at + 3u] = h.w;",
        "factors[at + 3u] = h.z;",
    ),
    in_variant(
        MATRICES,
        "mass not rescaled",
        &["attention"],
        "let factor = exp(highest[row] - higher);",
        "let factor = 1.0;",
    ),
    in_variant(
        MATRICES,
        "every subgroup has a last row of tiles",
        &["matmul"],
        "min(count, max(BM / T, $ru * count) - $ru * count)",
        "count",
    ),
    in_variant(MATRICES, "past the last k", &["matmul"], "#if K_TAIL", "#if !K_TAIL"),
    in_variant(MATRICES, "one tap for two", &["conv2d"], "#if WHOLE_TAPS", "#if !WHOLE_TAPS"),
    in_variant(
        MATRICES,
        "past the last k of a chunk",
        &["conv2d_wgrad"],
        "if p >= end {",
        "if p >= dims.pixels {",
    ),
    in_variant(
        MATRICES,
        "the neighbour's place",
        &["conv2d_epilogue"],
        "epilogue(at, v);",
        "epilogue(at + 1u, v);",
    ),
    in_variant(
        MATRICES,
        "the neighbour's tile",
        &["matmul_epilogue"],
        "place.subgroup * T * T, T",
        "0u, T",
    ),
    in_variant(
        MATRICES,
        "weights of the other rows",
        &["attention"],
        "WEIGHTS + row *",
        "WEIGHTS + (row ^ 1u) *",
    ),
    in_variant(ONE_SUBGROUP, "mass not rescaled", &["attention"], "mass$r *= shrink$r;", ""),
    in_variant(
        ONE_SUBGROUP,
        "delta left out",
        &["attention_bwd_kv"],
        "(dp$r_$i - delta$i)",
        "dp$r_$i",
    ),
    in_variant(
        ONE_SUBGROUP,
        "delta left out",
        &["attention_bwd_q"],
        "(dp$r_$i - delta$r)",
        "dp$r_$i",
    ),
    in_variant(
        ONE_SUBGROUP,
        "every invocation takes its own code's norm",
        &["nearest_code"],
        "subgroupBroadcast(own_norm$g, $iu)",
        "own_norm$g",
    ),
    in_variant(
        SHORT,
        "last code of a tile left out",
        &["nearest_code"],
        "let count = min(dims.k - first, TILE);",
        "let count = min(dims.k - first, TILE) - 1u;",
    ),
    in_variant(
        SHORT,
        "difference not squared",
        &["nearest_code"],
        "sum += dot(difference, difference);",
        "sum += dot(difference, vec4<f32>(1.0));",
    ),
    in_variant(
        SHORT,
        "a code longer than any may be",
        &["nearest_code"],
        "select(vec4<f32>(0.0), factor * e$x, norm < FAR)",
        "factor * e$x",
    ),
    in_variant(
        ONE_SUBGROUP,
        "a code longer than any may be",
        &["nearest_code"],
        "&& own_norm$g < FAR)",
        ")",
    ),
    in_variant(
        SUBGROUPS,
        "the last subgroup's sum alone",
        &["layer_norm", "sum_all"],
        "total += reduce_scratch[i];",
        "total = reduce_scratch[i];",
    ),
    in_variant(
        SUBGROUPS,
        "every subgroup has its own maximum",
        &["softmax_rows"],
        "let own = subgroupMax(value);",
        "let own = subgroupMax(value); if WG > 0u { return own; }",
    ),
    in_variant(
        SUBGROUPS,
        "the most instead of the least",
        &["draw_tokens"],
        "let least = subgroupMin(value);",
        "let least = subgroupMax(value);",
    ),
];
