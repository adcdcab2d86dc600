//! Trained weights from and for other programs.

mod config;
pub mod diffusers;
pub mod pipeline;
pub mod runs;
#[cfg(test)]
mod tests;
pub mod text;
mod weights;
