//! vqforge: a training step is recorded once on a tape, compiled once into a plan, and replayed
//! thousands of times on a device, a GPU through wgpu or the CPU.
//!
//! ```text
//! config -> data -> model -> ops -> tape -> plan -> kernels -> device
//!                   (what to compute)  (when, where)  (how)    (on what)
//! ```
#![deny(unsafe_code)]

pub mod bench;
pub mod compare;
pub mod config;
pub mod data;
pub mod device;
pub mod diffusion;
pub mod error;
pub mod interop;
pub mod kernels;
pub mod metrics;
pub mod model;
pub mod ops;
pub mod plan;
pub mod precision;
pub mod recompute;
pub mod report;
pub mod rng;
pub mod shader;
pub mod shape;
pub mod tape;
pub mod train;
pub mod verdict;
