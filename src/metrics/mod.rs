//! How good reconstructions are, how alike two sets are, and how much of a codebook is used.
//!
//! Images are f32 in [0, 1], NHWC; spectrograms have Doppler in rows (top = positive) and time in
//! columns. All arithmetic is f64 with sums in a fixed order, the same at any number of threads.

pub mod collapse;
pub mod decibel;
pub mod envelope;
pub mod generation;
pub mod kinematics;
pub mod ms_ssim;
pub mod psnr;
pub mod quality;
pub mod scores;
pub mod ssim;
pub mod usage;

pub use collapse::{Codebook, Diagnosis, Remedy, Symptom};
pub use decibel::{DbError, db_error, log_spectral_distance};
pub use envelope::{EnvelopeError, Envelopes, envelopes};
pub use kinematics::{
    FEATURE_NAMES, FEATURES, FeatureDistance, feature_distances, features, mean_distance,
    set_features, wasserstein1,
};
pub use ms_ssim::{MsSsim, ms_ssim};
pub use psnr::{foreground_psnr, mse, psnr};
pub use quality::{Quality, QualitySum};
pub use scores::{ImageScores, PSNR_CAP, Scoring, score_images};
pub use ssim::{DATA_RANGE, SsimConvention, Window, ssim};
pub use usage::{CodeUsage, Gate, HeadUsage, Usage};

#[cfg(test)]
mod tests;
