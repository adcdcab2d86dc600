//! vqforge: a training step is recorded once on a tape, compiled once into a plan, and replayed
//! thousands of times on a device, a GPU through wgpu or the CPU.
#![deny(unsafe_code)]

pub mod device;
pub mod error;
pub mod kernels;
pub mod rng;
pub mod shader;
