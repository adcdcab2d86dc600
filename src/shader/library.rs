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
    "attention_tile",
    "element",
    "exponential",
    "flat",
    "gemm",
    "partials",
    "philox",
    "reduce",
    "reduce_columns",
    "reduce_max",
    "silu",
    "step",
];

pub fn find(name: &str) -> Option<&'static str> {
    FRAGMENTS.iter().find(|(n, _)| *n == name).map(|(_, text)| *text)
}

pub fn names() -> impl Iterator<Item = &'static str> {
    FRAGMENTS.iter().map(|(n, _)| *n)
}
