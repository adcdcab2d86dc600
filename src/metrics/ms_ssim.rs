//! Multi-scale structural similarity: Z. Wang, E. P. Simoncelli, A. C. Bovik, "Multi-scale
//! structural similarity for image quality assessment", Asilomar 2003.
//!
//! ```text
//! ms_ssim = mean(l cs)_M^w_M  prod_{j<M} mean(cs)_j^w_j
//! cs = (2 cov + C2) / (va + vb + C2),   l = (2 ma mb + C1) / (ma^2 + mb^2 + C1)
//! ```
//! Scale j + 1 is scale j averaged over blocks of 2 x 2; a last odd row or column is dropped. A
//! negative mean, which has no real power, counts as 0. Channels are averaged at the end.

use super::ssim::{Window, plane, terms};

/// The published exponents, finest scale first. They sum to 1.0001, and five scales use them as
/// they are; fewer scales use the first ones divided by their sum.
const WEIGHTS: [f64; 5] = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];

/// MS-SSIM, and over how many scales: values over different numbers do not compare.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MsSsim {
    pub value: f64,
    pub scales: usize,
}

/// Scales at which the window fits into an image, at most five; 0 if it never fits. With the
/// Gaussian window of 11, five scales need 176 pixels, 64 pixels give three.
pub fn scales(height: usize, width: usize, window: &Window) -> usize {
    (0..WEIGHTS.len()).take_while(|j| height.min(width) >> j >= window.size()).count()
}

/// MS-SSIM of two images of `[height, width, channels]` in [0, 1]; `None` if the window does not
/// fit at all. One scale is SSIM itself, with negative means as 0.
pub fn ms_ssim(a: &[f32], b: &[f32], shape: [usize; 3], window: &Window) -> Option<MsSsim> {
    both(a, b, shape, window).map(|(_, multi)| multi)
}

/// SSIM and MS-SSIM, which share the finest scale: the costliest part of both.
pub(super) fn both(
    a: &[f32],
    b: &[f32],
    shape: [usize; 3],
    window: &Window,
) -> Option<(f64, MsSsim)> {
    let [height, width, channels] = shape;
    let scales = scales(height, width, window);
    if scales == 0 || channels == 0 {
        return None;
    }
    let total = if scales == WEIGHTS.len() { 1.0 } else { WEIGHTS[..scales].iter().sum() };
    let (mut single, mut multi) = (0.0, 0.0);
    for k in 0..channels {
        let (mut a, mut b) = (plane(a, k, channels), plane(b, k, channels));
        let (mut h, mut w) = (height, width);
        let mut product = 1.0;
        for (j, weight) in WEIGHTS[..scales].iter().enumerate() {
            let (ssim, cs) = terms(&a, &b, h, w, window);
            if j == 0 {
                single += ssim;
            }
            let term = if j + 1 == scales { ssim } else { cs };
            // Not `max`, which would turn a NaN into 0.
            product *= if term < 0.0 { 0.0 } else { term.powf(weight / total) };
            (a, b) = (halve(&a, h, w), halve(&b, h, w));
            (h, w) = (h / 2, w / 2);
        }
        multi += product;
    }
    let n = channels as f64;
    Some((single / n, MsSsim { value: multi / n, scales }))
}

/// Means over blocks of 2 x 2.
fn halve(values: &[f64], height: usize, width: usize) -> Vec<f64> {
    let mut out = Vec::with_capacity((height / 2) * (width / 2));
    for y in 0..height / 2 {
        let (upper, lower) = (&values[2 * y * width..], &values[(2 * y + 1) * width..]);
        for x in 0..width / 2 {
            let i = 2 * x;
            out.push((upper[i] + upper[i + 1] + lower[i] + lower[i + 1]) / 4.0);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::ssim;

    fn waves(h: usize, w: usize, step: usize) -> Vec<f32> {
        (0..h * w).map(|v| (v * step % 101) as f32 / 101.0).collect()
    }

    #[test]
    fn scales_that_fit() {
        let count = |h, w| scales(h, w, &Window::gaussian());
        assert_eq!([count(10, 99), count(11, 11), count(21, 22), count(22, 22)], [0, 1, 1, 2]);
        assert_eq!([count(64, 64), count(128, 64), count(175, 400), count(176, 176)], [3, 3, 4, 5]);
        assert_eq!(scales(4000, 4000, &Window::gaussian()), 5);
        assert_eq!(scales(28, 28, &Window::uniform(7)), 3);
    }

    #[test]
    fn identity_symmetry_and_one_scale() {
        let window = Window::gaussian();
        for (h, w) in [(11, 30), (45, 47), (88, 90)] {
            let (a, b) = (waves(h, w, 37), waves(h, w, 38));
            let of = |x: &[f32], y: &[f32]| ms_ssim(x, y, [h, w, 1], &window).unwrap();
            assert_eq!(of(&a, &a).value, 1.0);
            assert_eq!(of(&a, &b), of(&b, &a));
        }
        let (a, b) = (waves(16, 16, 37), waves(16, 16, 36));
        let one = ms_ssim(&a, &b, [16, 16, 1], &window).unwrap();
        let plain = ssim(&a, &b, [16, 16, 1], &window).unwrap().max(0.0);
        assert_eq!((one.value, one.scales), (plain.powf(1.0), 1));
        assert_eq!(ms_ssim(&a[..100], &b[..100], [10, 10, 1], &window), None);
    }

    /// An image against its negative: the contrast terms are negative, the result is 0, not NaN.
    #[test]
    fn negative_terms() {
        let a = waves(44, 44, 37);
        let b: Vec<f32> = a.iter().map(|v| 1.0 - v).collect();
        assert_eq!(ms_ssim(&a, &b, [44, 44, 1], &Window::gaussian()).unwrap().value, 0.0);
    }

    #[test]
    fn halves_drop_the_odd_edge() {
        let values: Vec<f64> = (0..15).map(f64::from).collect();
        assert_eq!(halve(&values, 3, 5), [3.0, 5.0]);
    }
}
