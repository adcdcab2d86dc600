//! Models: what to compute, in terms of operations. Nothing here knows a kernel or a device.

pub mod autoencoder;
mod classic;
pub mod classifier;
pub mod clip;
mod compact;
pub mod denoiser;
pub mod discriminator;
mod layers;
pub mod losses;
pub mod perceptual;
pub mod quantiser;
mod scope;
pub mod vqmodel;

pub use scope::Scope;
