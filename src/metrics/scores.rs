//! All measures of a reconstruction, image by image.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::decibel::{db_error, log_spectral_distance};
use super::envelope::EnvelopeError;
use super::ms_ssim::both;
use super::psnr::{foreground_psnr, mse, psnr};
use super::ssim::{SsimConvention, Window, ssim};
use crate::error::{Error, Result};

/// What stands for the infinite PSNR of an exact copy where a finite number is needed, in dB. An
/// image of f32 in [0, 1] that is not an exact copy lies below it unless its root mean square error
/// is under 1e-5.
pub const PSNR_CAP: f64 = 100.0;

/// What images are and what they stand for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scoring {
    /// `[height, width, channels]`.
    pub shape: [usize; 3],
    /// The range in dB that [0, 1] stands for; `None` if it is unknown or the images are no
    /// spectrograms, and then no measure in dB of level is given.
    pub dynamic_range_db: Option<f64>,
}

/// Scores of one reconstruction. `None`: undefined.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ImageScores {
    /// Mean squared error.
    pub mse: f64,
    /// In dB for a peak of 1; `None` where it is infinite, for an exact copy, as JSON has no
    /// infinity. See [`psnr_capped`](Self::psnr_capped).
    pub psnr: Option<f64>,
    /// [`SsimConvention::Gaussian`]; `None` if the image is smaller than the window.
    pub ssim: Option<f64>,
    /// [`SsimConvention::Uniform7`], likewise.
    pub ssim_uniform7: Option<f64>,
    /// Over as many scales as fit: the same number for all images of a shape.
    pub ms_ssim: Option<f64>,
    /// PSNR over the echo, in dB; `None` if the image has no foreground or it was copied exactly.
    pub foreground_psnr: Option<f64>,
    /// Mean absolute error in dB of level; `None` without a dynamic range.
    pub db_mae: Option<f64>,
    /// Log-spectral distance in dB of level; `None` without a dynamic range.
    pub lsd: Option<f64>,
    /// Mean over frames of the absolute error of the Doppler centroid, in bins; of one channel only.
    pub centroid_error: Option<f64>,
    /// Likewise of the Doppler bandwidth.
    pub bandwidth_error: Option<f64>,
}

/// The windows of both conventions of SSIM.
#[derive(Debug, Clone, PartialEq)]
pub struct Windows {
    pub gaussian: Window,
    pub uniform: Window,
}

impl Default for Windows {
    fn default() -> Self {
        Windows {
            gaussian: SsimConvention::Gaussian.window(),
            uniform: SsimConvention::Uniform7.window(),
        }
    }
}

impl ImageScores {
    /// Of one image of `scoring.shape` in [0, 1] and what came out for it.
    pub fn of(reference: &[f32], output: &[f32], scoring: &Scoring, windows: &Windows) -> Self {
        let [height, width, channels] = scoring.shape;
        let mse = mse(reference, output);
        let similarity = both(reference, output, scoring.shape, &windows.gaussian);
        let db = scoring.dynamic_range_db;
        let level = |d: f64| db_error(reference, output, d);
        let distance = |d: f64| log_spectral_distance(reference, output, scoring.shape, d);
        // An image without envelopes is not finite: that must show.
        let doppler = (channels == 1 && !reference.is_empty()).then(|| {
            EnvelopeError::between(reference, output, height, width).unwrap_or(EnvelopeError::NAN)
        });
        ImageScores {
            mse,
            psnr: not_infinite(psnr(mse)),
            ssim: similarity.map(|(ssim, _)| ssim),
            ssim_uniform7: ssim(reference, output, scoring.shape, &windows.uniform),
            ms_ssim: similarity.map(|(_, multi)| multi.value),
            foreground_psnr: foreground_psnr(reference, output).and_then(not_infinite),
            db_mae: db.and_then(level).map(|e| e.mae),
            lsd: db.and_then(distance),
            centroid_error: doppler.map(|e| e.centroid),
            bandwidth_error: doppler.map(|e| e.bandwidth),
        }
    }

    /// PSNR in dB, at most [`PSNR_CAP`]: a number for every image, for comparisons of pairs.
    pub fn psnr_capped(&self) -> f64 {
        // Not `min`, which would turn a NaN into the cap.
        self.psnr.map_or(PSNR_CAP, |db| if db > PSNR_CAP { PSNR_CAP } else { db })
    }
}

/// A NaN stays: it must show.
fn not_infinite(db: f64) -> Option<f64> {
    (db != f64::INFINITY).then_some(db)
}

/// Scores of a batch of images in [0, 1], NHWC, in order; the same at any number of threads. An
/// error if the two lengths differ or are no whole number of images.
pub fn score_images(
    reference: &[f32],
    output: &[f32],
    scoring: &Scoring,
) -> Result<Vec<ImageScores>> {
    let len = scoring.shape.iter().product::<usize>();
    if len == 0 || reference.len() != output.len() || !reference.len().is_multiple_of(len) {
        let [height, width, channels] = scoring.shape;
        return Err(Error::failed("originals and reconstructions that cannot be paired").why(
            format!(
                "{} and {} values, for images of {height} x {width} x {channels}",
                reference.len(),
                output.len()
            ),
        ));
    }
    Ok(score_pairs(reference, output, scoring, &Windows::default()))
}

/// The pairs of whole images of two batches.
pub(super) fn score_pairs(
    reference: &[f32],
    output: &[f32],
    scoring: &Scoring,
    windows: &Windows,
) -> Vec<ImageScores> {
    let len = scoring.shape.iter().product::<usize>().max(1);
    let pairs = reference.par_chunks_exact(len).zip(output.par_chunks_exact(len));
    pairs.map(|(a, b)| ImageScores::of(a, b, scoring, windows)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCORING: Scoring = Scoring { shape: [12, 12, 1], dynamic_range_db: Some(40.0) };

    fn waves(step: usize) -> Vec<f32> {
        (0..144).map(|v| (v * step % 97) as f32 / 97.0).collect()
    }

    #[test]
    fn copies_have_no_psnr() {
        let a = waves(5);
        let one = score_images(&a, &a, &SCORING).unwrap()[0];
        assert_eq!((one.mse, one.psnr, one.psnr_capped()), (0.0, None, PSNR_CAP));
        assert_eq!([one.ssim, one.ssim_uniform7, one.ms_ssim], [Some(1.0); 3]);
        assert_eq!((one.db_mae, one.lsd, one.centroid_error), (Some(0.0), Some(0.0), Some(0.0)));
        let text = serde_json::to_string(&one).unwrap();
        assert!(text.contains("\"psnr\":null"), "{text}");
        assert_eq!(serde_json::from_str::<ImageScores>(&text).unwrap(), one);
    }

    #[test]
    fn undefined_measures() {
        let shape = [4, 4, 2];
        let (a, b) = ([0.5; 32], [0.25; 32]);
        let scoring = Scoring { shape, dynamic_range_db: None };
        let one = score_images(&a, &b, &scoring).unwrap()[0];
        assert_eq!((one.mse, one.psnr), (0.0625, Some(psnr(0.0625))));
        let none = [one.ssim, one.ssim_uniform7, one.ms_ssim, one.foreground_psnr, one.db_mae];
        assert_eq!((none, one.lsd), ([None; 5], None));
        assert_eq!((one.centroid_error, one.bandwidth_error), (None, None));
    }

    /// Each measure of an image with one broken pixel, on a bright one: the foreground counts it too.
    #[test]
    fn broken_pixels_show() {
        let mut a = vec![0.25; 144];
        a[70] = 1.0;
        for broken in [f32::NAN, f32::INFINITY] {
            let mut b = a.clone();
            b[70] = broken;
            let one = score_images(&a, &b, &SCORING).unwrap()[0];
            for (what, score) in [
                ("mse", Some(one.mse)),
                ("psnr", one.psnr),
                ("psnr_capped", Some(one.psnr_capped())),
                ("ssim", one.ssim),
                ("ssim_uniform7", one.ssim_uniform7),
                ("ms_ssim", one.ms_ssim),
                ("foreground_psnr", one.foreground_psnr),
                ("db_mae", one.db_mae),
                ("lsd", one.lsd),
                ("centroid_error", one.centroid_error),
                ("bandwidth_error", one.bandwidth_error),
            ] {
                assert!(score.is_some_and(|v| !v.is_finite()), "{what} of {broken}: {score:?}");
            }
        }
    }

    #[test]
    fn lengths_must_fit() {
        let a = waves(5);
        assert!(score_images(&a, &a[..143], &SCORING).is_err());
        assert!(score_images(&a[..143], &a[..143], &SCORING).is_err());
        let empty = Scoring { shape: [0, 4, 1], ..SCORING };
        assert!(score_images(&[], &[], &empty).is_err());
        assert_eq!(score_images(&[], &[], &SCORING).unwrap().len(), 0);
    }
}
