//! How good reconstructions are, and how much of a codebook is used.

pub mod psnr;
pub mod quality;
pub mod ssim;
pub mod usage;

pub use psnr::{foreground_psnr, mse, psnr};
pub use quality::{Quality, QualitySum};
pub use ssim::{Window, ssim};
pub use usage::{CodeUsage, Gate, Usage};
