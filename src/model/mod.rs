//! Models: what to compute, in terms of operations. Nothing here knows a kernel or a device.

pub mod classifier;
mod compact;
pub mod denoiser;
pub mod discriminator;
mod layers;
pub mod losses;
mod scope;
pub mod vqmodel;
pub mod vqvae;

pub use scope::Scope;
