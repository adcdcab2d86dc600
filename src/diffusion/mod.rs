//! Masked (absorbing) discrete diffusion over code indices: noise schedules, samplers, the
//! likelihood bound and the baseline it must beat.
//!
//! State of a token: a code in 0..K, or the mask K. Corruption masks every token independently with
//! probability 1 - alpha(t); the network predicts p(x0 | xt). Formulas: MDLM (2406.07524) and MD4
//! (2406.04329).

pub mod baseline;
pub mod process;
pub mod sampler;
mod schedule;

pub use schedule::{Schedule, stratified_times};
