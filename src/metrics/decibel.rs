//! Errors in decibels.
//!
//! A spectrogram image in [0, 1] stands for a dynamic range of D dB: `dB = D (x - 1)`, 1 being the
//! reference level. Rows are Doppler, columns are time. Differences do not depend on the reference.

use serde::{Deserialize, Serialize};

/// Error over all pixels, in dB.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DbError {
    pub mae: f64,
    pub rmse: f64,
}

/// Mean absolute and root mean square error in dB of two images in [0, 1] that stand for
/// `dynamic_range_db`. `None` for empty images.
pub fn db_error(reference: &[f32], output: &[f32], dynamic_range_db: f64) -> Option<DbError> {
    let n = reference.len() as f64;
    let (mut absolute, mut square) = (0.0, 0.0);
    for (a, b) in reference.iter().zip(output) {
        let d = f64::from(*a) - f64::from(*b);
        absolute += d.abs();
        square += d * d;
    }
    (!reference.is_empty()).then(|| DbError {
        mae: dynamic_range_db * absolute / n,
        rmse: dynamic_range_db * (square / n).sqrt(),
    })
}

/// Log-spectral distance in dB of two images of `[height, width, channels]` in [0, 1]: per frame
/// (column) the root mean square over Doppler (rows) of the difference in dB, averaged over frames
/// and channels (A. H. Gray, J. D. Markel, "Distance measures for speech processing", IEEE TASSP
/// 24(5):380, 1976). `None` for empty images.
pub fn log_spectral_distance(
    reference: &[f32],
    output: &[f32],
    shape: [usize; 3],
    dynamic_range_db: f64,
) -> Option<f64> {
    let [height, width, channels] = shape;
    if height * width * channels == 0 {
        return None;
    }
    let mut squares = vec![0.0; width * channels];
    for (a, b) in reference.chunks_exact(squares.len()).zip(output.chunks_exact(squares.len())) {
        for (sum, (a, b)) in squares.iter_mut().zip(a.iter().zip(b)) {
            *sum += (f64::from(*a) - f64::from(*b)).powi(2);
        }
    }
    let sum: f64 = squares.iter().map(|s| (s / height as f64).sqrt()).sum();
    Some(dynamic_range_db * sum / squares.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2 Doppler rows, 3 frames; differences 1/4 0 1/2 over 1/4 0 0, of 40 dB.
    #[test]
    fn by_hand() {
        let reference = [0.5, 0.5, 0.5, 0.25, 0.25, 0.25];
        let output = [0.25, 0.5, 1.0, 0.5, 0.25, 0.25];
        let error = db_error(&reference, &output, 40.0).unwrap();
        assert_eq!(error.mae, 40.0 / 6.0);
        assert_eq!(error.rmse, 40.0 * (0.375f64 / 6.0).sqrt());
        // Frames: 1/4, 0 and 1/2 sqrt(1/2).
        let want = 40.0 * (0.25 + 0.5 * 0.5f64.sqrt()) / 3.0;
        let lsd = log_spectral_distance(&reference, &output, [2, 3, 1], 40.0).unwrap();
        assert!((lsd - want).abs() <= 4.0 * f64::EPSILON * want, "{lsd} {want}");
        // Exchanging rows and columns is another measure.
        assert_ne!(log_spectral_distance(&reference, &output, [3, 2, 1], 40.0), Some(lsd));
        // Two channels of the same frames are the frames of one image.
        let channels = log_spectral_distance(&reference, &output, [2, 1, 3], 40.0);
        assert_eq!(channels, Some(lsd));
    }

    #[test]
    fn empty_images_have_none() {
        assert_eq!(db_error(&[], &[], 40.0), None);
        assert_eq!(log_spectral_distance(&[], &[], [0, 4, 1], 40.0), None);
        assert_eq!(db_error(&[0.5], &[0.5], 40.0), Some(DbError { mae: 0.0, rmse: 0.0 }));
    }
}
