//! Structural similarity: Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, "Image quality
//! assessment: from error visibility to structural similarity", IEEE TIP 13(4):600, 2004.
//!
//! ```text
//! ssim = (2 ma mb + C1)(2 cov + C2) / ((ma^2 + mb^2 + C1)(va + vb + C2)),  C1 = .01^2, C2 = .03^2
//! ```
//! for values in [0, 1], with local means, variances and covariance under a window, averaged over
//! the positions where the whole window lies inside the image. All arithmetic is f64.

use serde::{Deserialize, Serialize};

/// The separable weighting of the neighbourhood of a pixel.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// One side; sums to 1.
    weights: Vec<f64>,
    /// Variances times this: 1 for the population form, n / (n - 1) for the sample form.
    correction: f64,
}

impl Window {
    /// 11 x 11 Gaussian of standard deviation 1.5, population covariance: the original convention,
    /// and the one of the reported numbers.
    pub fn gaussian() -> Self {
        let weight = |i: i32| (-0.5 * (f64::from(i) / 1.5).powi(2)).exp();
        let weights: Vec<f64> = (-5..=5).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        Window { weights: weights.iter().map(|w| w / sum).collect(), correction: 1.0 }
    }

    /// `size` x `size` mean with sample covariance (n - 1); scikit-image's default with size 7.
    pub fn uniform(size: usize) -> Self {
        let n = (size * size) as f64;
        Window { weights: vec![1.0 / size as f64; size], correction: n / (n - 1.0) }
    }

    pub fn size(&self) -> usize {
        self.weights.len()
    }
}

/// The range of pixel values that C1 and C2 refer to: all images here are in [0, 1].
pub const DATA_RANGE: f64 = 1.0;
const C1: f64 = (0.01 * DATA_RANGE) * (0.01 * DATA_RANGE);
const C2: f64 = (0.03 * DATA_RANGE) * (0.03 * DATA_RANGE);

/// The two definitions in use, both for a data range of [`DATA_RANGE`]. Their values differ by some
/// hundredths, so a number needs its convention beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SsimConvention {
    /// [`Window::gaussian`]: the original paper; what papers and this crate's scores report.
    Gaussian,
    /// [`Window::uniform`] of 7: what scikit-image computes without further arguments.
    Uniform7,
}

impl SsimConvention {
    pub const ALL: [SsimConvention; 2] = [SsimConvention::Gaussian, SsimConvention::Uniform7];

    pub fn window(self) -> Window {
        match self {
            SsimConvention::Gaussian => Window::gaussian(),
            SsimConvention::Uniform7 => Window::uniform(7),
        }
    }

    /// For the caption of a table.
    pub fn describe(self) -> &'static str {
        match self {
            SsimConvention::Gaussian => {
                "SSIM, 11 x 11 Gaussian window (sigma 1.5), population covariance, data range 1"
            }
            SsimConvention::Uniform7 => {
                "SSIM, 7 x 7 uniform window, sample covariance, data range 1"
            }
        }
    }
}

/// Mean SSIM of two images of `[height, width, channels]`, averaged over channels; `None` if the
/// window does not fit into the image.
pub fn ssim(a: &[f32], b: &[f32], shape: [usize; 3], window: &Window) -> Option<f64> {
    let [height, width, channels] = shape;
    if height < window.size() || width < window.size() || channels == 0 {
        return None;
    }
    let mut total = 0.0;
    for k in 0..channels {
        total += terms(&plane(a, k, channels), &plane(b, k, channels), height, width, window).0;
    }
    Some(total / channels as f64)
}

/// Channel `k` of an interleaved image.
pub(super) fn plane(image: &[f32], k: usize, channels: usize) -> Vec<f64> {
    image[k..].iter().step_by(channels).map(|&v| f64::from(v)).collect()
}

/// Means over the positions of the window: of SSIM, and of its contrast and structure part
/// `(2 cov + C2) / (va + vb + C2)`.
pub(super) fn terms(
    a: &[f64],
    b: &[f64],
    height: usize,
    width: usize,
    window: &Window,
) -> (f64, f64) {
    let mean = |map: &dyn Fn(usize) -> f64| {
        let values: Vec<f64> = (0..height * width).map(map).collect();
        filter(&values, height, width, &window.weights)
    };
    let ma = mean(&|i| a[i]);
    let mb = mean(&|i| b[i]);
    let maa = mean(&|i| a[i] * a[i]);
    let mbb = mean(&|i| b[i] * b[i]);
    let mab = mean(&|i| a[i] * b[i]);
    let (mut ssim, mut structure) = (0.0, 0.0);
    for i in 0..ma.len() {
        let (ma, mb) = (ma[i], mb[i]);
        let va = window.correction * (maa[i] - ma * ma);
        let vb = window.correction * (mbb[i] - mb * mb);
        let cov = window.correction * (mab[i] - ma * mb);
        ssim +=
            (2.0 * ma * mb + C1) * (2.0 * cov + C2) / ((ma * ma + mb * mb + C1) * (va + vb + C2));
        structure += (2.0 * cov + C2) / (va + vb + C2);
    }
    (ssim / ma.len() as f64, structure / ma.len() as f64)
}

/// Weighted means at all positions where the window fits: rows first, then columns.
fn filter(values: &[f64], height: usize, width: usize, weights: &[f64]) -> Vec<f64> {
    let (rows, columns) = (height - weights.len() + 1, width - weights.len() + 1);
    let mut across = vec![0.0; height * columns];
    for (out, line) in across.chunks_exact_mut(columns).zip(values.chunks_exact(width)) {
        for (j, w) in weights.iter().enumerate() {
            out.iter_mut().zip(&line[j..]).for_each(|(sum, v)| *sum += w * v);
        }
    }
    let mut out = vec![0.0; rows * columns];
    for (y, out) in out.chunks_exact_mut(columns).enumerate() {
        for (j, w) in weights.iter().enumerate() {
            let line = &across[(y + j) * columns..][..columns];
            out.iter_mut().zip(line).for_each(|(sum, v)| *sum += w * v);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::shared;
    use crate::metrics::{mse, psnr};

    #[test]
    fn identity_symmetry_and_size() {
        let a: Vec<f32> = (0..13 * 17).map(|v| (v * 37 % 101) as f32 / 101.0).collect();
        let b: Vec<f32> = a.iter().map(|v| 1.0 - v).collect();
        for window in [Window::gaussian(), Window::uniform(7)] {
            assert_eq!(ssim(&a, &a, [13, 17, 1], &window), Some(1.0));
            assert_eq!(ssim(&a, &b, [13, 17, 1], &window), ssim(&b, &a, [13, 17, 1], &window));
            assert!(ssim(&a, &b, [13, 17, 1], &window).unwrap() < 0.1);
            assert_eq!(ssim(&a[..36], &a[..36], [6, 6, 1], &window), None);
        }
    }

    /// Two channels are two planes: the mean of their values.
    #[test]
    fn channels() {
        let plane = |s: u32| -> Vec<f32> {
            (0..144).map(|v| (v * s % 97) as f32 / 97.0).collect::<Vec<_>>()
        };
        let (a, b, c) = (plane(5), plane(29), plane(41));
        let zip = |x: &[f32], y: &[f32]| -> Vec<f32> {
            x.iter().zip(y).flat_map(|(x, y)| [*x, *y]).collect()
        };
        let window = Window::gaussian();
        let one = |x: &[f32], y: &[f32]| ssim(x, y, [12, 12, 1], &window).unwrap();
        let both = ssim(&zip(&a, &b), &zip(&c, &b), [12, 12, 2], &window).unwrap();
        assert_eq!(both, (one(&a, &c) + one(&b, &b)) / 2.0);
    }

    /// Values of an independent implementation for eight pairs of images of 48 x 40.
    #[test]
    fn reference_values() {
        let Some(path) = shared("fixtures/ops/quantisers.safetensors") else { return };
        let bytes = std::fs::read(path).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let f32s = |name: &str| -> Vec<f32> {
            let data = tensors.tensor(name).unwrap();
            data.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
        };
        let f64s = |name: &str| -> Vec<f64> {
            let data = tensors.tensor(name).unwrap();
            data.data().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
        };
        let (a, b) = (f32s("metrics.a"), f32s("metrics.b"));
        let len = 48 * 40;
        let gaussian = f64s("metrics.ssim_gaussian");
        let uniform = f64s("metrics.ssim_uniform7");
        let psnrs = f64s("metrics.psnr");
        assert_eq!((a.len(), gaussian.len()), (8 * len, 8));
        // The inputs are f32 and exact in f64, where both sides compute. Sums of m terms of at most
        // 1 are off by m eps; PSNR divides by the sum itself and takes 10 log10.
        let psnr_bound = 10.0 / std::f64::consts::LN_10 * len as f64 * f64::EPSILON;
        // A variance is the difference of two such sums over the window, and the smallest
        // denominator it meets is C2; both factors of the quotient count, for both sides.
        let bound = |window: &Window| 4.0 * window.size().pow(2) as f64 * f64::EPSILON / C2;
        let close = |got: f64, want: f64, bound: f64| {
            assert!((got - want).abs() <= bound, "{got} {want} {bound:e}");
        };
        for i in 0..8 {
            let (a, b) = (&a[i * len..][..len], &b[i * len..][..len]);
            let db = psnr(mse(a, b));
            // 999 stands for identical images.
            close(if db.is_infinite() { 999.0 } else { db }, psnrs[i], psnr_bound);
            for (window, want) in
                [(Window::gaussian(), gaussian[i]), (Window::uniform(7), uniform[i])]
            {
                close(ssim(a, b, [48, 40, 1], &window).unwrap(), want, bound(&window));
            }
        }
    }
}
