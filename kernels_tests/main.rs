//! Tests that need a device: every kernel in every form, and what is built from kernels.

mod agreement;
mod compare;
mod cross_compile;
mod device;
mod fixtures;
mod norm_fixtures;
mod op_fixtures;
mod optimiser;
mod quantiser;
mod random;
mod registry;
mod rig;
mod vqmodel;
