//! Attention on the CPU. A block of queries (or, for dk and dv, of keys) lies across the lanes of
//! two vector registers; the tokens on the other side are taken one after another. Then the two
//! products of attention, and the softmax between them, are vertical vector operations: see
//! [`lanes`].
//!
//! Only the block is transposed, once. Every lane is computed alone and in a fixed order, so the
//! bits depend neither on the number of threads nor on how tokens are grouped into blocks.

mod backward;
mod forward;
mod lanes;

pub use backward::{backward_kv, backward_q, delta};
pub use forward::forward;

/// Tokens of a unit of parallel work, all heads.
const UNIT: usize = 32;
/// Tokens of the other side whose scores are held at a time.
const SCORES: usize = 64;
