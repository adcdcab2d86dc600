//! The reconstruction metrics of a set of images in one pass.

use std::fmt;

use serde::Serialize;

use super::kinematics::{
    FEATURES, FeatureDistance, feature_distances, mean_distance, set_features,
};
use super::ms_ssim::scales;
use super::scores::{ImageScores, Scoring, Windows, score_pairs};

/// Means over images of their [`ImageScores`]. A mean over no image is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quality {
    pub images: usize,
    /// Images that came out as they went in. Their PSNR is infinite; they count in every mean except
    /// those of the two PSNRs, which therefore err on the low side.
    pub exact_copies: usize,
    pub mse: f64,
    /// Mean over images of the PSNR of each, in dB; infinite (in JSON: null) if all are exact copies.
    pub psnr: f64,
    /// Likewise over the images that have foreground pixels; `None` if none has.
    pub foreground_psnr: Option<f64>,
    /// [`Gaussian`](super::SsimConvention::Gaussian); `None` if the images are smaller than the
    /// window.
    pub ssim: Option<f64>,
    /// [`Uniform7`](super::SsimConvention::Uniform7), likewise.
    pub ssim_uniform7: Option<f64>,
    pub ms_ssim: Option<f64>,
    /// Scales of `ms_ssim`, at most five; 0 if there is none.
    pub ms_ssim_scales: usize,
    /// In dB of level; `None` without a dynamic range.
    pub db_mae: Option<f64>,
    /// Log-spectral distance in dB of level; `None` without a dynamic range.
    pub lsd: Option<f64>,
    /// In Doppler bins; of images with one channel.
    pub centroid_error: Option<f64>,
    /// In Doppler bins; of images with one channel.
    pub bandwidth_error: Option<f64>,
    /// [`mean_distance`] of the envelopes' features, in standard deviations of the originals; of
    /// images with one channel.
    pub envelope_w1: Option<f64>,
}

/// The sum and number of what is defined.
#[derive(Debug, Clone, Copy, Default)]
struct Sum(f64, usize);

impl Sum {
    fn add(&mut self, value: Option<f64>) {
        if let Some(value) = value {
            *self = Sum(self.0 + value, self.1 + 1);
        }
    }

    fn mean(self) -> Option<f64> {
        (self.1 > 0).then(|| self.0 / self.1 as f64)
    }
}

/// Sums that grow batch by batch. Images are measured in parallel and added in order, so the
/// result does not depend on the number of threads or on how the images are cut into batches.
#[derive(Debug, Clone)]
pub struct QualitySum {
    scoring: Scoring,
    windows: Windows,
    /// Of the originals and of what came out, by image; of one channel only.
    features: [Vec<[f64; FEATURES]>; 2],
    images: usize,
    exact_copies: usize,
    mse: f64,
    psnr: Sum,
    foreground: Sum,
    ssim: Sum,
    ssim_uniform7: Sum,
    ms_ssim: Sum,
    db_mae: Sum,
    lsd: Sum,
    centroid: Sum,
    bandwidth: Sum,
}

impl QualitySum {
    /// For images of `[height, width, channels]` of unknown dynamic range.
    pub fn new(shape: [usize; 3]) -> Self {
        Self::with_scoring(Scoring { shape, dynamic_range_db: None })
    }

    /// With the measures in dB too, if the range is given.
    pub fn with_scoring(scoring: Scoring) -> Self {
        let none = Sum::default();
        QualitySum {
            scoring,
            windows: Windows::default(),
            features: [vec![], vec![]],
            images: 0,
            exact_copies: 0,
            mse: 0.0,
            psnr: none,
            foreground: none,
            ssim: none,
            ssim_uniform7: none,
            ms_ssim: none,
            db_mae: none,
            lsd: none,
            centroid: none,
            bandwidth: none,
        }
    }

    /// Adds a batch of images in [0, 1], NHWC, and what came out for them.
    pub fn add(&mut self, reference: &[f32], output: &[f32]) {
        self.score(reference, output);
    }

    /// As [`add`](Self::add), and gives the scores of each image of the batch.
    pub fn score(&mut self, reference: &[f32], output: &[f32]) -> Vec<ImageScores> {
        let [height, width, channels] = self.scoring.shape;
        if channels == 1 {
            for (known, images) in self.features.iter_mut().zip([reference, output]) {
                known.extend(set_features(images, height, width));
            }
        }
        let batch = score_pairs(reference, output, &self.scoring, &self.windows);
        batch.iter().for_each(|one| self.add_scores(one));
        batch
    }

    fn add_scores(&mut self, one: &ImageScores) {
        self.images += 1;
        self.exact_copies += usize::from(one.mse == 0.0);
        self.mse += one.mse;
        self.psnr.add(one.psnr);
        self.foreground.add(one.foreground_psnr);
        self.ssim.add(one.ssim);
        self.ssim_uniform7.add(one.ssim_uniform7);
        self.ms_ssim.add(one.ms_ssim);
        self.db_mae.add(one.db_mae);
        self.lsd.add(one.lsd);
        self.centroid.add(one.centroid_error);
        self.bandwidth.add(one.bandwidth_error);
    }

    /// How far the features of the envelopes are from those of the originals; empty for images of
    /// several channels, and if some are not finite.
    pub fn envelopes(&self) -> Vec<FeatureDistance> {
        let [real, made] = &self.features;
        let complete = real.len() == self.images && made.len() == self.images;
        complete.then(|| feature_distances(real, made)).flatten().unwrap_or_default()
    }

    /// The means so far; `None` before the first image.
    pub fn mean(&self) -> Option<Quality> {
        let [height, width, _] = self.scoring.shape;
        let ms_ssim = self.ms_ssim.mean();
        (self.images > 0).then(|| Quality {
            images: self.images,
            exact_copies: self.exact_copies,
            mse: self.mse / self.images as f64,
            psnr: self.psnr.mean().unwrap_or(f64::INFINITY),
            foreground_psnr: self.foreground.mean(),
            ssim: self.ssim.mean(),
            ssim_uniform7: self.ssim_uniform7.mean(),
            ms_ssim,
            ms_ssim_scales: ms_ssim.map_or(0, |_| scales(height, width, &self.windows.gaussian)),
            db_mae: self.db_mae.mean(),
            lsd: self.lsd.mean(),
            centroid_error: self.centroid.mean(),
            bandwidth_error: self.bandwidth.mean(),
            envelope_w1: mean_distance(&self.envelopes()),
        })
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "psnr {:.2} dB", self.psnr)?;
        if let Some(foreground) = self.foreground_psnr {
            write!(f, " (foreground {foreground:.2})")?;
        }
        if let Some(ssim) = self.ssim {
            write!(f, ", ssim {ssim:.3}")?;
        }
        write!(f, ", mse {:.6} over {} images", self.mse, self.images)?;
        if self.exact_copies > 0 {
            write!(f, " ({} exact copies are not in the psnr)", self.exact_copies)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{mse, psnr};
    use crate::rng::{Rng, Stream};

    #[test]
    fn batches_do_not_matter() {
        let shape = [12, 13, 1];
        let len = 12 * 13;
        let mut rng = Rng::new(4, Stream::Test, 0);
        let mut noise = |n: usize| (0..n).map(|_| rng.uniform() as f32).collect::<Vec<_>>();
        let (a, b) = (noise(7 * len), noise(7 * len));
        let mut whole = QualitySum::new(shape);
        assert_eq!(whole.mean(), None);
        whole.add(&a, &b);
        let mut parts = QualitySum::new(shape);
        for (a, b) in a.chunks(3 * len).zip(b.chunks(3 * len)) {
            parts.add(a, b);
        }
        assert_eq!(whole.mean(), parts.mean());
        let mean = whole.mean().unwrap();
        let psnrs = (0..7).map(|i| psnr(mse(&a[i * len..][..len], &b[i * len..][..len])));
        assert_eq!(mean.psnr, psnrs.sum::<f64>() / 7.0);
        // The mean of logarithms is not the logarithm of the mean.
        assert_ne!(mean.psnr, psnr(mean.mse));
        assert!(mean.to_string().contains("over 7 images"), "{mean}");
        let distances = parts.envelopes();
        assert_eq!((distances.len(), mean_distance(&distances)), (FEATURES, mean.envelope_w1));
        assert!(mean.envelope_w1.is_some_and(|w1| w1 > 0.0), "{mean:?}");
        let mut same = QualitySum::new(shape);
        same.add(&a, &a);
        assert_eq!(same.mean().unwrap().envelope_w1, Some(0.0));
        let mut broken = b.clone();
        broken[3] = f32::NAN;
        same.add(&a, &broken);
        assert_eq!(same.envelopes(), []);
    }

    #[test]
    fn small_images_have_no_ssim() {
        let mut sum = QualitySum::new([4, 4, 1]);
        sum.add(&[0.5; 16], &[0.25; 16]);
        let mean = sum.mean().unwrap();
        assert_eq!((mean.ssim, mean.foreground_psnr, mean.mse), (None, None, 0.0625));
    }

    #[test]
    fn exact_copies_are_counted_apart() {
        let mut sum =
            QualitySum::with_scoring(Scoring { shape: [2, 2, 1], dynamic_range_db: Some(40.0) });
        sum.add(&[0.5; 4], &[0.5; 4]);
        let copies = sum.mean().unwrap();
        assert_eq!((copies.psnr, copies.exact_copies), (f64::INFINITY, 1));
        assert!(serde_json::to_string(&copies).unwrap().contains("\"psnr\":null"));
        let one = sum.score(&[0.5; 4], &[0.25; 4])[0];
        let both = sum.mean().unwrap();
        assert_eq!((both.psnr, both.mse), (one.psnr.unwrap(), 0.03125));
        assert_eq!((both.images, both.exact_copies), (2, 1));
        assert_eq!((both.db_mae, both.lsd), (Some(5.0), Some(5.0)));
        assert!(both.to_string().contains("1 exact copies"), "{both}");
    }
}
