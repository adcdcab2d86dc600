//! Trained weights from and for other programs.

mod config;
pub mod diffusers;
#[cfg(test)]
mod tests;
