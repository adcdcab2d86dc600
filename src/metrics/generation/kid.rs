//! Kernel inception distance (Binkowski et al. 2018, 1801.01401): the squared maximum mean discrepancy
//! of two sets of features under k(x, y) = (x.y / d + 1)^3, its unbiased estimator
//!
//! ```text
//! mmd2 = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)
//! ```
//! of Gretton et al., JMLR 13:723, 2012, lemma 6. For sets of one distribution its mean is 0 at any size,
//! so that it can be below 0.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Judged, Matrix, sum_over};
use crate::rng::{Rng, Stream};

/// Random subsets, and the most images in one: those of the publication.
const SUBSETS: usize = 100;
const LARGEST_SUBSET: usize = 1000;
/// Halves of fewer have no two images.
const FEWEST: usize = 4;

/// The distance of two sets. In JSON, all fields.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Kid {
    /// Of all images: the best estimate.
    pub mmd2: f64,
    /// The standard error of `mmd2`: a jackknife over the images of both sets (B. Efron, C. Stein,
    /// Annals of Statistics 9(3):586, 1981). Subsets share images, so that their spread is not one.
    pub standard_error: f64,
    /// Mean and sample standard deviation over `subsets` random subsets of `subset_size` images of each
    /// set, as the publication reports it: half of the smaller set, 1000 at most.
    pub subset_mean: f64,
    pub subset_std: f64,
    pub subsets: usize,
    pub subset_size: usize,
}

/// The distance of two sets of features of one width; `seed` chooses the subsets.
pub fn kid(x: &Matrix, y: &Matrix, seed: u64) -> Judged<Kid> {
    let fewest = x.len().min(y.len());
    if fewest < FEWEST {
        return Judged::not(format!(
            "{fewest} images in a set: halves of them need 2, so {FEWEST}"
        ));
    }
    let sums = Sums::of(x, y);
    let subset_size = (fewest / 2).min(LARGEST_SUBSET);
    let values: Vec<f64> = (0..SUBSETS as u64)
        .into_par_iter()
        .map(|subset| {
            let mut rng = Rng::new(seed, Stream::Bootstrap, subset);
            let mut draw = |set: &Matrix| set.select(&rng.permutation(set.len())[..subset_size]);
            let (x, y) = (draw(x), draw(y));
            mmd2(&x, &y)
        })
        .collect();
    let n = SUBSETS as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    Judged::Value(Kid {
        mmd2: sums.mmd2(),
        standard_error: sums.jackknife().sqrt(),
        subset_mean: mean,
        subset_std: variance.sqrt(),
        subsets: SUBSETS,
        subset_size,
    })
}

/// Kernel sums of each image: with the others of its own set, and with the other set.
struct Sums {
    xx: Vec<f64>,
    yy: Vec<f64>,
    xy: Vec<f64>,
    yx: Vec<f64>,
}

fn kernel(x: &[f64], y: &[f64]) -> f64 {
    let dot = sum_over(x, y, |x, y| x * y);
    (dot / x.len() as f64 + 1.0).powi(3)
}

/// The unbiased estimate alone.
fn mmd2(x: &Matrix, y: &Matrix) -> f64 {
    let within = |set: &Matrix| {
        let n = set.len();
        let above = |i: usize| (i + 1..n).map(move |j| kernel(set.row(i), set.row(j)));
        let sum: f64 = (0..n).flat_map(above).sum();
        2.0 * sum / (n as f64 * (n as f64 - 1.0))
    };
    let across: f64 = x.rows().flat_map(|x| y.rows().map(move |y| kernel(x, y))).sum();
    within(x) + within(y) - 2.0 * across / (x.len() as f64 * y.len() as f64)
}

impl Sums {
    fn of(x: &Matrix, y: &Matrix) -> Self {
        let within = |set: &Matrix| -> Vec<f64> {
            let others = |i: usize| (0..set.len()).filter(move |&j| j != i);
            let sum = |i: usize| others(i).map(|j| kernel(set.row(i), set.row(j))).sum();
            (0..set.len()).into_par_iter().map(sum).collect()
        };
        let across = |from: &Matrix, to: &Matrix| -> Vec<f64> {
            let sum = |i: usize| to.rows().map(|row| kernel(from.row(i), row)).sum();
            (0..from.len()).into_par_iter().map(sum).collect()
        };
        Sums { xx: within(x), yy: within(y), xy: across(x, y), yx: across(y, x) }
    }

    fn mmd2(&self) -> f64 {
        let (m, n) = (self.xx.len() as f64, self.yy.len() as f64);
        let [xx, yy, xy] = [&self.xx, &self.yy, &self.xy].map(|sums| sums.iter().sum::<f64>());
        xx / (m * (m - 1.0)) + yy / (n * (n - 1.0)) - 2.0 * xy / (m * n)
    }

    /// The variance of `mmd2`: (m - 1) / m sum_i (mmd2 without x_i - their mean)^2, and the same of y.
    fn jackknife(&self) -> f64 {
        let part = |own: &[f64], cross: &[f64], other: f64| {
            let (m, n) = (own.len() as f64, other);
            let (all, both): (f64, f64) = (own.iter().sum(), cross.iter().sum());
            // What is left of the three means without image i; that of the other set is no matter.
            let without = |(own, cross): (&f64, &f64)| {
                let within = (all - 2.0 * own) / ((m - 1.0) * (m - 2.0));
                within - 2.0 * (both - cross) / ((m - 1.0) * n)
            };
            let values: Vec<f64> = own.iter().zip(cross).map(without).collect();
            let mean = values.iter().sum::<f64>() / m;
            (m - 1.0) / m * values.iter().map(|v| (v - mean).powi(2)).sum::<f64>()
        };
        let (m, n) = (self.xx.len() as f64, self.yy.len() as f64);
        part(&self.xx, &self.xy, n) + part(&self.yy, &self.yx, m)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{gaussians, recorded};
    use super::*;

    /// Points at a and at b on the line: k(a, a) + k(b, b) - 2 k(a, b) with k = (a b + 1)^3.
    #[test]
    fn point_masses_by_hand() {
        let points = |at: f64, n: usize| Matrix::new(vec![at; n], 1);
        assert_eq!(mmd2(&points(1.0, 4), &points(2.0, 6)), 8.0 + 125.0 - 2.0 * 27.0);
        assert_eq!(mmd2(&points(1.0, 4), &points(1.0, 5)), 0.0);
        // Two dimensions: x.y / 2.
        let (a, b) = (Matrix::new([1.0, 1.0].repeat(4), 2), Matrix::new([2.0, 0.0].repeat(4), 2));
        assert_eq!(mmd2(&a, &b), 8.0 + 27.0 - 2.0 * 8.0);
        let Judged::Value(kid) = kid(&a, &b, 0) else { panic!("judged") };
        assert_eq!([kid.mmd2, kid.subset_mean], [19.0, 19.0]);
        assert_eq!([kid.standard_error, kid.subset_std], [0.0, 0.0]);
        assert_eq!((kid.subsets, kid.subset_size), (100, 2));
    }

    /// x, y = recorded(12, 3), recorded(9, 3, 100) of `testing`; in NumPy:
    /// ```python
    /// k = lambda a, b: (a @ b.T / 3 + 1) ** 3
    /// off = lambda a: (k(a, a).sum() - k(a, a).trace()) / len(a) / (len(a) - 1)
    /// mmd2 = lambda x, y: off(x) + off(y) - 2 * k(x, y).mean()
    /// jack = lambda v: (len(v) - 1) / len(v) * ((v - v.mean()) ** 2).sum()
    /// vx = jack(np.array([mmd2(np.delete(x, i, 0), y) for i in range(12)]))
    /// vy = jack(np.array([mmd2(x, np.delete(y, i, 0)) for i in range(9)]))
    /// mmd2(x, y), np.sqrt(vx + vy)
    /// ```
    #[test]
    fn as_in_numpy() {
        let (x, y) = (recorded(12, 3, 0), recorded(9, 3, 100));
        let Judged::Value(got) = kid(&x, &y, 0) else { panic!("judged") };
        let want = [KID_MMD2, KID_ERROR];
        for (got, want) in [got.mmd2, got.standard_error].into_iter().zip(want) {
            // Sums of some 300 products of a few units each.
            assert!((got - want).abs() <= 1e-12, "{got} is not {want}");
        }
        assert!((mmd2(&x, &y) - got.mmd2).abs() <= 1e-12);
    }
    const KID_MMD2: f64 = -0.321_422_275_349_561;
    const KID_ERROR: f64 = 0.210_371_217_897_219_44;

    /// Sets of one distribution: the mean over many pairs of sets is 0 within four of its standard
    /// errors, and their spread is what the jackknife says of each, to a factor that it overestimates by
    /// where nothing is to be found.
    #[test]
    fn unbiased() {
        let pairs = 3000;
        let (mut values, mut errors) = (vec![], vec![]);
        for pair in 0..pairs {
            let (x, y) = (gaussians(12, 3, 2 * pair, 1.0), gaussians(12, 3, 2 * pair + 1, 1.0));
            let sums = Sums::of(&x, &y);
            values.push(sums.mmd2());
            errors.push(sums.jackknife());
        }
        let n = pairs as f64;
        let mean = values.iter().sum::<f64>() / n;
        let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
        let error = deviation / n.sqrt();
        assert!(mean.abs() < 4.0 * error, "{mean} +- {error}");
        let told = (errors.iter().sum::<f64>() / n).sqrt();
        assert!((1.0..3.0).contains(&(told / deviation)), "{told} of {deviation}");
        // The biased estimator would be off by E k(x, x) - E k(x, y), over 12 twice.
        let bias = 2.0 * mean_diagonal(&gaussians(12, 3, 0, 1.0)) / 12.0;
        assert!(bias > 10.0 * error, "{bias} would not be seen");
    }

    fn mean_diagonal(x: &Matrix) -> f64 {
        x.rows().map(|row| kernel(row, row) - 1.0).sum::<f64>() / x.len() as f64
    }

    /// Farther sets are farther, by more than their standard errors.
    #[test]
    fn grows_with_the_distance() {
        let (x, y) = (gaussians(100, 2, 0, 1.0), gaussians(100, 2, 1, 1.0));
        let at = |shift: f64| {
            let moved = Matrix::new(y.rows().flatten().map(|v| v + shift).collect(), 2);
            let Judged::Value(v) = kid(&x, &moved, 0) else { panic!("judged") };
            v
        };
        let (same, far, farther) = (at(0.0), at(2.0), at(3.0));
        assert!(same.mmd2.abs() < 4.0 * same.standard_error, "{same:?}");
        assert!(far.mmd2 > 4.0 * far.standard_error, "{far:?}");
        assert!(farther.mmd2 > far.mmd2, "{farther:?}");
        // Every subset estimates the same distance.
        assert!((far.subset_mean - far.mmd2).abs() < far.subset_std, "{far:?}");
    }

    #[test]
    fn too_few() {
        let set = |n: usize| Matrix::new(vec![1.0; n], 1);
        assert!(kid(&set(4), &set(3), 0).reason().is_some_and(|r| r.contains("3 images")));
        assert!(kid(&set(4), &set(4), 0).value().is_some());
    }
}
