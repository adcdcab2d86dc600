//! The reconstruction metrics of a set of images in one pass.

use std::fmt;

use rayon::prelude::*;
use serde::Serialize;

use super::psnr::{foreground_psnr, mse, psnr};
use super::ssim::{Window, ssim};

/// Means over images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quality {
    pub images: usize,
    pub mse: f64,
    /// Mean over images of the PSNR of each, in dB.
    pub psnr: f64,
    /// Likewise over the images that have foreground pixels; `None` if none has.
    pub foreground_psnr: Option<f64>,
    /// Gaussian window; `None` if the images are smaller than it.
    pub ssim: Option<f64>,
}

/// Metrics of one image.
#[derive(Debug, Clone, Copy)]
struct One {
    mse: f64,
    foreground: Option<f64>,
    ssim: Option<f64>,
}

/// Sums that grow batch by batch. Images are measured in parallel and added in order, so the
/// result does not depend on the number of threads or on how the images are cut into batches.
#[derive(Debug, Clone)]
pub struct QualitySum {
    shape: [usize; 3],
    window: Window,
    images: usize,
    mse: f64,
    psnr: f64,
    foreground: (f64, usize),
    ssim: (f64, usize),
}

impl QualitySum {
    /// For images of `[height, width, channels]`.
    pub fn new(shape: [usize; 3]) -> Self {
        QualitySum {
            shape,
            window: Window::gaussian(),
            images: 0,
            mse: 0.0,
            psnr: 0.0,
            foreground: (0.0, 0),
            ssim: (0.0, 0),
        }
    }

    /// Adds a batch of images in [0, 1], NHWC, and what came out for them.
    pub fn add(&mut self, reference: &[f32], output: &[f32]) {
        let len = self.shape.iter().product::<usize>().max(1);
        let measure = |(a, b): (&[f32], &[f32])| One {
            mse: mse(a, b),
            foreground: foreground_psnr(a, b),
            ssim: ssim(a, b, self.shape, &self.window),
        };
        let pairs = reference.par_chunks_exact(len).zip(output.par_chunks_exact(len));
        let batch: Vec<One> = pairs.map(measure).collect();
        let add = |sum: &mut (f64, usize), value: Option<f64>| {
            if let Some(value) = value {
                *sum = (sum.0 + value, sum.1 + 1);
            }
        };
        for one in batch {
            self.images += 1;
            self.mse += one.mse;
            self.psnr += psnr(one.mse);
            add(&mut self.foreground, one.foreground);
            add(&mut self.ssim, one.ssim);
        }
    }

    /// The means so far; `None` before the first image.
    pub fn mean(&self) -> Option<Quality> {
        let n = self.images as f64;
        let mean = |(sum, count): (f64, usize)| (count > 0).then(|| sum / count as f64);
        (self.images > 0).then(|| Quality {
            images: self.images,
            mse: self.mse / n,
            psnr: self.psnr / n,
            foreground_psnr: mean(self.foreground),
            ssim: mean(self.ssim),
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
        write!(f, ", mse {:.6} over {} images", self.mse, self.images)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
    }

    #[test]
    fn small_images_have_no_ssim() {
        let mut sum = QualitySum::new([4, 4, 1]);
        sum.add(&[0.5; 16], &[0.25; 16]);
        let mean = sum.mean().unwrap();
        assert_eq!((mean.ssim, mean.foreground_psnr, mean.mse), (None, None, 0.0625));
    }
}
