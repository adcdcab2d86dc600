//! Radar signals into spectrogram images: range transform, clutter filter, short-time Fourier
//! transform over slow time, decibels, a crop in Doppler, and the size of the image.
//!
//! [`Transform`] holds every parameter with its unit, [`presets`] names the chains of published
//! data sets, [`Chain`] runs one, [`load`] finds recordings and their labels in files.

pub mod chain;
#[cfg(test)]
mod file_tests;
pub mod load;
pub mod mti;
pub mod presets;
pub mod recordings;
pub mod spectrogram;
#[cfg(test)]
mod tests;
pub mod transform;
pub mod window;

pub use chain::Chain;
pub use recordings::Recording;
pub use transform::{Axes, Input, Level, Mti, RangeSum, ReferenceScope, Resize, Transform};
pub use window::Window;
