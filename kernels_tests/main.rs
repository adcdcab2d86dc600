//! Tests that need a device: every kernel in every form, and what is built from kernels.

mod agreement;
mod compare;
mod cross_compile;
mod custom_op;
mod device;
mod engine;
mod fixtures;
mod gradients;
mod half_kernels;
mod layers;
mod mixed;
mod mlp_digits;
mod norm_fixtures;
mod op_fixtures;
mod optimiser;
mod planner;
mod quantiser;
mod random;
mod registry;
mod rig;
mod timing;
mod tuner;
mod vqmodel;
mod walk;
