//! Do two sets of spectrograms move alike? Features of the [envelopes](super::envelope), and the
//! distance of their distributions. Real against generated images, which have no pairs, are compared
//! this way; reconstructions can be held against their own originals too
//! ([`EnvelopeError`](super::EnvelopeError)).

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::envelope::envelopes;

/// Features of one image.
pub const FEATURES: usize = 7;

/// What the features are, in the order of [`features`]. L, U, c: lower and upper envelope, centroid.
pub const FEATURE_NAMES: [&str; FEATURES] =
    ["min L", "max U", "mean(U-L)", "max(U-L)", "mean c", "std c", "mean|dc/dt|"];

/// min L, max U, mean(U-L), max(U-L), mean c, std c (population) in Doppler bins and mean|dc/dt| in
/// bins a frame (0 for a single frame), of one plane; `None` where it has no envelopes. Multiply by
/// the bin width, and the last by the frame rate too, for Hz and Hz/s.
pub fn features(image: &[f32], height: usize, width: usize) -> Option<[f64; FEATURES]> {
    let e = envelopes(image, height, width)?;
    let n = width as f64;
    let spread = || e.upper.iter().zip(&e.lower).map(|(u, l)| u - l);
    let mean = e.centroid.iter().sum::<f64>() / n;
    let variance = e.centroid.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / n;
    let steps = e.centroid.windows(2).map(|c| (c[1] - c[0]).abs()).sum::<f64>();
    Some([
        e.lower.iter().copied().fold(f64::INFINITY, f64::min),
        e.upper.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        spread().sum::<f64>() / n,
        spread().fold(f64::NEG_INFINITY, f64::max),
        mean,
        variance.sqrt(),
        if width > 1 { steps / (n - 1.0) } else { 0.0 },
    ])
}

/// The features of all images of a set of single planes that have them, in order.
pub fn set_features(images: &[f32], height: usize, width: usize) -> Vec<[f64; FEATURES]> {
    let len = (height * width).max(1);
    let each: Vec<_> =
        images.par_chunks_exact(len).map(|image| features(image, height, width)).collect();
    each.into_iter().flatten().collect()
}

/// How far one feature's distribution is from the real one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureDistance {
    pub feature: String,
    /// 1-Wasserstein distance in the feature's unit.
    pub w1: f64,
    /// Population standard deviation of the real set.
    pub real_std: f64,
    /// w1 / real_std: 0 if both are 0, `None` if only the deviation is 0, as any distance from a
    /// constant is infinitely many of its deviations.
    pub normalised: Option<f64>,
}

/// The distance of each feature between two sets; `None` if one of them is empty.
pub fn feature_distances(
    real: &[[f64; FEATURES]],
    other: &[[f64; FEATURES]],
) -> Option<Vec<FeatureDistance>> {
    let column = |set: &[[f64; FEATURES]], k: usize| -> Vec<f64> {
        set.iter().map(|features| features[k]).collect()
    };
    let distance = |k: usize| {
        let (real, other) = (column(real, k), column(other, k));
        let w1 = wasserstein1(&real, &other)?;
        let n = real.len() as f64;
        let mean = real.iter().sum::<f64>() / n;
        let real_std = (real.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
        let normalised = match (w1 == 0.0, real_std == 0.0) {
            (true, true) => Some(0.0),
            (false, true) => None,
            _ => Some(w1 / real_std),
        };
        Some(FeatureDistance { feature: FEATURE_NAMES[k].into(), w1, real_std, normalised })
    };
    (0..FEATURES).map(distance).collect()
}

/// How far apart two sets are in one number: the mean over features of their
/// [`normalised`](FeatureDistance::normalised) distances, in standard deviations of the real set.
/// `None` if no feature has one.
pub fn mean_distance(distances: &[FeatureDistance]) -> Option<f64> {
    let known: Vec<f64> = distances.iter().filter_map(|d| d.normalised).collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

/// 1-Wasserstein (earth mover's) distance of two samples on the line: the area between their
/// empirical distribution functions. `None` if one is empty or holds a NaN.
pub fn wasserstein1(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.is_empty() || b.is_empty() || a.iter().chain(b).any(|v| v.is_nan()) {
        return None;
    }
    let sorted = |values: &[f64]| {
        let mut values = values.to_vec();
        values.sort_unstable_by(f64::total_cmp);
        values
    };
    let (a, b) = (sorted(a), sorted(b));
    // Walks both samples by ascending value; i and j values lie at or below `at`.
    let (mut i, mut j, mut area) = (0, 0, 0.0);
    let mut at = a[0].min(b[0]);
    while i < a.len() || j < b.len() {
        let next = match (a.get(i), b.get(j)) {
            (Some(x), Some(y)) => x.min(*y),
            (Some(x), None) | (None, Some(x)) => *x,
            (None, None) => break,
        };
        let gap = i as f64 / a.len() as f64 - j as f64 / b.len() as f64;
        area += gap.abs() * (next - at);
        at = next;
        i += a[i..].iter().take_while(|v| **v == at).count();
        j += b[j..].iter().take_while(|v| **v == at).count();
    }
    Some(area)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earth_moved_by_hand() {
        assert_eq!(wasserstein1(&[1.0, 0.0], &[2.0, 1.0]), Some(1.0));
        assert_eq!(wasserstein1(&[3.0, 0.0, 1.0], &[5.0, 6.0, 8.0]), Some(5.0));
        // Half of the mass of a moves by 1.
        assert_eq!(wasserstein1(&[0.0], &[0.0, 1.0]), Some(0.5));
        assert_eq!(wasserstein1(&[2.0; 5], &[2.0; 3]), Some(0.0));
        assert_eq!(wasserstein1(&[], &[1.0]), None);
        assert_eq!(wasserstein1(&[f64::NAN], &[1.0]), None);
    }

    #[test]
    fn constant_features() {
        let (real, same) = ([[1.0; FEATURES]; 4], [[1.0; FEATURES]; 2]);
        let distances = feature_distances(&real, &same).unwrap();
        assert!(distances.iter().all(|d| d.normalised == Some(0.0)));
        let other = feature_distances(&real, &[[3.0; FEATURES]]).unwrap();
        assert!(other.iter().all(|d| d.w1 == 2.0 && d.normalised.is_none()));
        let spread = feature_distances(&[[0.0; FEATURES], [2.0; FEATURES]], &real).unwrap();
        assert!(spread.iter().all(|d| (d.w1, d.real_std, d.normalised) == (1.0, 1.0, Some(1.0))));
        assert_eq!(feature_distances(&real, &[]), None);
        let means = [&distances, &other, &spread].map(|d| mean_distance(d));
        assert_eq!(means, [Some(0.0), None, Some(1.0)]);
        let mut mixed = other;
        mixed[..2].clone_from_slice(&[distances[0].clone(), spread[0].clone()]);
        assert_eq!(mean_distance(&mixed), Some(0.5), "of the two that have one");
    }

    /// One bright pixel a frame in 5 rows: f = 1, -1, 2.
    #[test]
    fn features_by_hand() {
        let mut image = [0.0; 15];
        for (row, frame) in [(1, 0), (3, 1), (0, 2)] {
            image[row * 3 + frame] = 1.0;
        }
        let got = features(&image, 5, 3).unwrap();
        let mean = 2.0 / 3.0;
        let var = ((1.0f64 - mean).powi(2) + (1.0 + mean).powi(2) + (2.0 - mean).powi(2)) / 3.0;
        let want = [-1.0, 2.0, 0.0, 0.0, mean, var.sqrt(), 2.5];
        // The floor of five times 1e-6 draws every centroid to 0 by that share of at most 2.
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() <= 2e-5, "{got} {want}");
        }
        assert_eq!(features(&image[..5], 5, 1).unwrap()[6], 0.0);
        assert_eq!(set_features(&image, 5, 3), [got]);
        assert_eq!(set_features(&[f32::NAN; 30], 5, 3), [[0.0; FEATURES]; 0]);
    }
}
