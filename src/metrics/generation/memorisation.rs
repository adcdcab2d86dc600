//! Are samples copies of training images? The distance of each sample to its nearest training image,
//! beside the same distances of held-out images, which cannot be copies: in features, where a copy that
//! was shifted or made noisier is still near, and in pixels.
//!
//! A sample is suspect if it is nearer than all but 1 % of the held-out images. Of a generator that
//! copies nothing, about 1 % are, and as many of other held-out images: the floor.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::evaluation::Beside;
use super::{Judged, Matrix, squared_distance, sum_over};
use crate::data::Dataset;

/// Share of the held-out images that are nearer than the threshold.
const SUSPECT: f64 = 0.01;
/// Fewer held-out images have no first percentile of their own.
const FEWEST: usize = 100;
/// Pairs that are listed.
const LISTED: usize = 8;
/// Training images looked at together.
const BLOCK: usize = 256;
/// Pixels after which a sum of squares may be given up.
const STRETCH: usize = 256;

/// The nearest training image of an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nearest {
    /// As a row of the training features or of the data set.
    pub row: u32,
    pub distance: f64,
}

/// How many images are suspiciously near. In JSON, all fields.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Copies {
    /// Share of images nearer to the training images than `threshold`.
    pub share: f64,
    /// The first percentile of the distances of held-out images.
    pub threshold: f64,
    /// The median of the distances.
    pub median: f64,
}

/// A sample and its nearest training image. In JSON, all fields.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// Samples in order, from 0.
    pub sample: u32,
    /// As an image of the data set.
    pub training: u32,
    pub distance: f64,
}

/// In JSON: `features` and `pixels`, each `{"samples": Copies, "floor": Copies}` or `not_judged`
/// instead of either; and the nearest pairs of both, the nearest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Memorisation {
    /// Distances of features: their Euclidean norm.
    pub features: Beside<Copies>,
    pub nearest_in_features: Vec<Pair>,
    /// Distances of pixels in [0, 1]: the root of their mean square.
    pub pixels: Beside<Copies>,
    pub nearest_in_pixels: Vec<Pair>,
}

/// For each row of features the nearest of `training`, whose rows are called `names`; of several at one
/// distance the first. None of no training images.
pub fn nearest_features(images: &Matrix, training: &Matrix, names: &[u32]) -> Vec<Nearest> {
    let nearest = |i: usize| {
        let row = images.row(i);
        let each = training.rows().zip(names);
        let distances = each.map(|(other, &row_of)| (squared_distance(row, other), row_of));
        let (square, row) = distances.min_by(|a, b| a.0.total_cmp(&b.0))?;
        Some(Nearest { row, distance: square.sqrt() })
    };
    (0..images.len()).into_par_iter().filter_map(nearest).collect()
}

/// For each of the images, pixels in [0, 1], the nearest of the images `rows` of a data set of one
/// shape with them; of several at one distance the first. None of no rows.
pub fn nearest_pixels(images: &[f32], training: &Dataset, rows: &[u32]) -> Vec<Nearest> {
    let len = training.image_len().max(1);
    let start = Nearest { row: 0, distance: f64::INFINITY };
    let mut found = vec![start; if rows.is_empty() { 0 } else { images.len() / len }];
    let mut block = vec![0.0; BLOCK * len];
    for rows in rows.chunks(BLOCK) {
        training.images(rows, &mut block);
        found.par_iter_mut().zip(images.par_chunks_exact(len)).for_each(|(best, image)| {
            for (other, &row) in block.chunks_exact(len).zip(rows) {
                if let Some(distance) = nearer(image, other, best.distance) {
                    *best = Nearest { row, distance };
                }
            }
        });
    }
    found.iter_mut().for_each(|n| n.distance = (n.distance / len as f64).sqrt());
    found
}

/// The sum of squared differences if it is below `limit`.
fn nearer(a: &[f32], b: &[f32], limit: f64) -> Option<f64> {
    let mut sum = 0.0;
    for (a, b) in a.chunks(STRETCH).zip(b.chunks(STRETCH)) {
        sum += sum_over(a, b, |a, b| (f64::from(a) - f64::from(b)).powi(2));
        if sum >= limit {
            return None;
        }
    }
    Some(sum)
}

/// How many of `images` are suspiciously near, measured on `held_out`.
pub fn copies(images: &[Nearest], held_out: &[Nearest]) -> Judged<Copies> {
    if held_out.len() < FEWEST {
        return Judged::not(format!(
            "{} held-out images: their first percentile needs {FEWEST}",
            held_out.len()
        ));
    }
    let (images, held_out) = (sorted(images), sorted(held_out));
    let threshold = quantile(&held_out, SUSPECT);
    let near = images.iter().filter(|d| **d < threshold).count();
    let share = near as f64 / images.len().max(1) as f64;
    Judged::Value(Copies { share, threshold, median: quantile(&images, 0.5) })
}

/// The nearest pairs, each training image once: a generator that repeats one image would fill the list.
pub fn nearest_pairs(samples: &[Nearest]) -> Vec<Pair> {
    let numbered = samples.iter().zip(0..);
    let mut pairs: Vec<Pair> = numbered
        .map(|(n, sample)| Pair { sample, training: n.row, distance: n.distance })
        .collect();
    pairs.sort_by(|a, b| a.distance.total_cmp(&b.distance).then(a.sample.cmp(&b.sample)));
    let mut seen = std::collections::BTreeSet::new();
    pairs.retain(|pair| seen.insert(pair.training));
    pairs.truncate(LISTED);
    pairs
}

fn sorted(nearest: &[Nearest]) -> Vec<f64> {
    let mut distances: Vec<f64> = nearest.iter().map(|n| n.distance).collect();
    distances.sort_unstable_by(f64::total_cmp);
    distances
}

/// With linear interpolation between order statistics, NumPy's default; NaN of nothing.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = q * last as f64;
    let below = at.floor() as usize;
    let high = sorted[(below + 1).min(last)];
    sorted[below] + (at - below as f64) * (high - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(distances: impl Iterator<Item = f64>) -> Vec<Nearest> {
        distances.map(|distance| Nearest { row: 0, distance }).collect()
    }

    fn training(pixels: &[u8]) -> Dataset {
        let shape = [pixels.len() / 2, 1, 2, 1];
        Dataset::from_u8(pixels.to_vec(), shape, None, vec![], "test").unwrap()
    }

    #[test]
    fn nearest_by_hand() {
        let features = Matrix::new(vec![0.0, 0.0, 3.0, 4.0, 9.0, 0.0], 2);
        let images = Matrix::new(vec![0.0, 1.0, 6.0, 8.0], 2);
        let found = nearest_features(&images, &features, &[7, 8, 9]);
        assert_eq!(found, [(7, 1.0), (8, 5.0)].map(|(row, distance)| Nearest { row, distance }));
        assert_eq!(nearest_features(&images, &Matrix::default(), &[]), []);

        // Of the rows 1 and 2 only; pixels apart by 0.2 and 0.
        let data = training(&[0, 0, 51, 102, 255, 255]);
        let found = nearest_pixels(&[0.0, 0.4, 1.0, 1.0], &data, &[1, 2]);
        assert_eq!([found[0].row, found[1].row], [1, 2]);
        assert!((found[0].distance - 0.2 / 2f64.sqrt()).abs() < 1e-8 && found[1].distance == 0.0);
        assert_eq!(nearest_pixels(&[0.0, 0.4], &data, &[]), []);
    }

    /// The same as without giving up early and without blocks, over several of either.
    #[test]
    fn nearest_pixels_are_the_nearest() {
        let (n, side) = (BLOCK + 40, 23);
        let len = side * side;
        let value = |i: usize| (i * 7919 % 251) as u8;
        let pixels: Vec<u8> = (0..n * len).map(|i| value(i) / 2).collect();
        let data = Dataset::from_u8(pixels, [n, side, side, 1], None, vec![], "test").unwrap();
        let images: Vec<f32> = (0..3 * len).map(|i| f32::from(value(i + 13)) / 255.0).collect();
        let rows: Vec<u32> = (0..n as u32).rev().collect();
        let found = nearest_pixels(&images, &data, &rows);
        let mut other = vec![0.0; len];
        for (image, found) in images.chunks(len).zip(found) {
            let mut best = f64::INFINITY;
            for &row in &rows {
                data.image(row as usize, &mut other);
                let square = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
                let sum: f64 = image.iter().zip(&other).map(square).sum();
                best = best.min((sum / len as f64).sqrt());
            }
            // The order of a sum of 529 squares.
            assert!((found.distance - best).abs() <= 529.0 * f64::EPSILON, "{found:?} {best}");
        }
    }

    /// Held-out distances 0, 1, .. 200: the threshold is 2.
    #[test]
    fn shares_by_hand() {
        let held_out = at((0..=200).map(f64::from));
        let of = |images: Vec<Nearest>| match copies(&images, &held_out) {
            Judged::Value(v) => v,
            Judged::NotJudged { not_judged } => panic!("{not_judged}"),
        };
        let mixed = of(at([0.0, 1.9, 2.0, 50.0].into_iter()));
        assert_eq!((mixed.share, mixed.threshold, mixed.median), (0.5, 2.0, 1.95));
        let same = of(held_out.clone());
        assert_eq!(same.share, 2.0 / 201.0);
        assert!(copies(&held_out, &held_out[..99]).reason().is_some_and(|r| r.contains("100")));
    }

    #[test]
    fn pairs_name_a_training_image_once() {
        let near = |row, distance| Nearest { row, distance };
        let pairs = nearest_pairs(&[near(4, 3.0), near(5, 1.0), near(4, 2.0), near(6, 2.0)]);
        let named = pairs.iter().map(|p| (p.sample, p.training, p.distance));
        assert_eq!(named.collect::<Vec<_>>(), [(1, 5, 1.0), (2, 4, 2.0), (3, 6, 2.0)]);
        let many: Vec<_> = (0..20).map(|i| near(i, f64::from(i))).collect();
        assert_eq!(nearest_pairs(&many).len(), LISTED);
    }
}
