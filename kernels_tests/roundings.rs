//! How far an f32 evaluation of a long tape may be from the exact one, by the variance of its
//! roundings. (For one launch there is [`vqforge::kernels::Bounded`]; along hundreds of them its worst
//! case says nothing.)
//!
//! A rounding changes a result by a relative error of standard deviation u / sqrt 3
//! (u = 2^-24, uniform in +-u). A sum of n terms in sequence meets n partial sums that grow like
//! sqrt k: relative to the sum's own size the errors have variance u^2 n / 6, the products before
//! them u^2 / 3; blocked sums have less. Everything else in these networks is a few roundings per
//! element, taken as 12: variance 4 u^2. Along the graph independent errors add in variance, each
//! relative to the root mean square of its tensor, since norms bring every stage back to unit scale.
//! A tensor whose ancestors (by f32 values: an index passes no error on) add up to the variance
//! S u^2 may therefore be off by 6 standard deviations, 6 u sqrt(S) rms, once in 5e8 elements.

use crate::rig::U;
use std::collections::HashSet;
use vqforge::shader::Element;
use vqforge::tape::{Home, Node, Tape, ValueId};

/// Standard deviations that are allowed for.
pub const DEVIATIONS: f64 = 6.0;

/// Kernels whose outputs are sums of many products or terms, rather than means or elementwise.
const SUMS: [&str; 12] = [
    "attention",
    "attention_bwd_kv",
    "attention_bwd_q",
    "attention_delta",
    "code_sums",
    "col_sum",
    "conv2d",
    "conv2d_dgrad",
    "conv2d_wgrad",
    "group_norm_bwd_sums",
    "matmul",
    "sum_partials",
];

/// Variance, in u^2, that a launch adds relative to the size of what it writes.
fn variance(tape: &Tape, node: &Node) -> f64 {
    if !SUMS.contains(&node.kernel.name()) {
        return 4.0;
    }
    let written = node.binds.iter().zip(&node.writes).filter(|(_, w)| **w);
    let elements: usize = written.map(|(&b, _)| tape.shape(b).elements()).sum();
    let terms = node.kernel.cost().flops as f64 / 2.0 / elements as f64;
    terms / 6.0 + 1.0 / 3.0
}

/// S: the variance of everything that `value` was computed from.
pub fn roundings(tape: &Tape, value: ValueId) -> f64 {
    let mut needed: HashSet<ValueId> = [tape.root(value)].into();
    let mut sum = 0.0;
    for node in tape.nodes().iter().rev() {
        let roots = || node.binds.iter().map(|&b| tape.root(b)).zip(&node.writes);
        if roots().any(|(b, w)| *w && needed.contains(&b)) {
            sum += variance(tape, node);
            let reads = roots().filter(|(b, w)| !**w && tape.value(*b).element == Element::F32);
            needed.extend(reads.map(|(b, _)| b));
            needed.extend(node.init.map(|(_, from)| tape.root(from)));
        }
    }
    sum
}

/// Relative distance that two evaluations of the sum called `name` may have, whose terms are not
/// negative: each is off by its own roundings.
pub fn apart(tape: &Tape, name: &str) -> f64 {
    let named = |home: &Home| *home == Home::Sum(name.into());
    let (sum, _) = tape.values().find(|(_, v)| named(&v.home)).expect("a sum");
    DEVIATIONS * U * (2.0 * roundings(tape, sum)).sqrt()
}
