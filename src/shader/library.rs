//! Shared WGSL fragments for `#import`.

macro_rules! fragments {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../shaders/lib/", $name, ".wgsl")))),*]
    };
}

const FRAGMENTS: &[(&str, &str)] = fragments![
    "activation",
    "activations",
    "argmin",
    "argmin_subgroup",
    "attention_io",
    "attention_lanes",
    "attention_tile",
    "bit_chances",
    "coop",
    "coop_emulated",
    "coop_gemm",
    "element",
    "exponential",
    "flat",
    "gemm",
    "gemm_block",
    "gemm_narrow",
    "gemm_subgroup",
    "group_stats",
    "minus_log",
    "nearest_best",
    "nearest_rows",
    "noise",
    "partials",
    "partials_only",
    "penalty",
    "philox",
    "pixel_power",
    "product_output",
    "reduce",
    "reduce_columns",
    "reduce_max",
    "reduce_max_subgroup",
    "reduce_subgroup",
    "row_sums",
    "silu",
    "step",
    "subgroup",
    "token_posterior",
    "unit_interval",
    "workgroup_argmin",
    "workgroup_max",
    "workgroup_sum",
];

pub fn find(name: &str) -> Option<&'static str> {
    FRAGMENTS.iter().find(|(n, _)| *n == name).map(|(_, text)| *text)
}

pub fn names() -> impl Iterator<Item = &'static str> {
    FRAGMENTS.iter().map(|(n, _)| *n)
}
