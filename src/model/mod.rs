//! Models: what to compute, in terms of operations. Nothing here knows a kernel or a device.

mod classic;
pub mod classifier;
mod compact;
pub mod denoiser;
mod layers;
mod scope;
pub mod vqmodel;
pub mod vqvae;

pub use scope::Scope;
