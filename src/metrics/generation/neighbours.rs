//! Improved precision and recall (Kynkaanniemi et al. 2019, 1904.06991): the manifold of a set is the
//! union of balls around its features, each up to the third neighbour in the set. Precision is the share
//! of samples on the manifold of the real images, recall that of real images on the manifold of the
//! samples.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Judged, Matrix, squared_distance};

/// Which neighbour a ball reaches to.
pub const NEIGHBOUR: usize = 3;

/// In JSON, all fields.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PrecisionRecall {
    /// Share of samples that look real, in [0, 1].
    pub precision: f64,
    /// Share of real images that the samples reach, in [0, 1].
    pub recall: f64,
}

/// Of features of one width.
pub fn precision_recall(real: &Matrix, samples: &Matrix) -> Judged<PrecisionRecall> {
    let fewest = real.len().min(samples.len());
    if fewest <= NEIGHBOUR {
        let need = NEIGHBOUR + 1;
        return Judged::not(format!(
            "{fewest} images in a set: {NEIGHBOUR} neighbours need {need}"
        ));
    }
    Judged::Value(PrecisionRecall {
        precision: share_within(samples, real),
        recall: share_within(real, samples),
    })
}

/// Share of the points on the manifold of a set.
fn share_within(points: &Matrix, set: &Matrix) -> f64 {
    let radii: Vec<f64> = (0..set.len()).into_par_iter().map(|i| radius(set, i)).collect();
    let is_within = |i: &usize| {
        let mut balls = set.rows().zip(&radii);
        balls.any(|(centre, radius)| squared_distance(points.row(*i), centre) <= *radius)
    };
    let within = (0..points.len()).into_par_iter().filter(is_within).count();
    within as f64 / points.len() as f64
}

/// Squared distance from image `i` to its third neighbour, itself not counted.
fn radius(set: &Matrix, i: usize) -> f64 {
    let others = (0..set.len()).filter(|&j| j != i);
    let mut distances: Vec<f64> =
        others.map(|j| squared_distance(set.row(i), set.row(j))).collect();
    *distances.select_nth_unstable_by(NEIGHBOUR - 1, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::super::testing::recorded;
    use super::*;

    fn of(real: &[f64], samples: &[f64]) -> (f64, f64) {
        let line = |v: &[f64]| Matrix::new(v.into(), 1);
        match precision_recall(&line(real), &line(samples)) {
            Judged::Value(v) => (v.precision, v.recall),
            Judged::NotJudged { not_judged } => panic!("{not_judged}"),
        }
    }

    /// 0, 1, 2, 4 reach to 4, 3, 2, 4 on either side: from -4 to 8. The samples 5, 6, 20, 9 reach
    /// 15, 14, 15, 11: all real ones; two samples are within.
    #[test]
    fn by_hand() {
        assert_eq!(of(&[0.0, 1.0, 2.0, 4.0], &[5.0, 6.0, 20.0, 9.0]), (0.5, 1.0));
        assert_eq!(of(&[0.0, 1.0, 2.0, 4.0], &[0.0, 1.0, 2.0, 4.0]), (1.0, 1.0));
        // One sample again and again looks real and reaches one image.
        assert_eq!(of(&[0.0, 10.0, 20.0, 40.0], &[10.0; 6]), (1.0, 0.25));
        assert_eq!(of(&[0.0, 1.0, 2.0, 4.0], &[90.0, 91.0, 92.0, 93.0]), (0.0, 0.0));
    }

    /// x, y = recorded(20, 2), 1.5 recorded(15, 2, 100) of `testing`; in NumPy:
    /// ```python
    /// radius = lambda a: np.sort(np.linalg.norm(a[:, None] - a[None], axis=2), 1)[:, 3]
    /// D = np.linalg.norm(x[:, None] - y[None], axis=2)
    /// (D <= radius(x)[:, None]).any(0).mean(), (D <= radius(y)[None]).any(1).mean()
    /// ```
    #[test]
    fn as_in_numpy() {
        let larger = |m: &Matrix| Matrix::new(m.rows().flatten().map(|v| 1.5 * v).collect(), 2);
        let (x, y) = (recorded(20, 2, 0), larger(&recorded(15, 2, 100)));
        let Judged::Value(got) = precision_recall(&x, &y) else { panic!("judged") };
        assert_eq!((got.precision, got.recall), (8.0 / 15.0, 1.0));
    }

    #[test]
    fn too_few() {
        let set = |n: usize| Matrix::new(vec![1.0; n], 1);
        let few = precision_recall(&set(3), &set(9));
        assert!(few.reason().is_some_and(|r| r.contains("need 4")), "{few:?}");
    }
}
