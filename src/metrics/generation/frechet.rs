//! Frechet distance of two sets of features: the squared 2-Wasserstein distance of the Gaussians with
//! their means and covariances,
//!
//! ```text
//! |m1 - m2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2)
//! ```
//! (D. C. Dowson, B. V. Landau, J. Multivariate Analysis 12:450, 1982), which Heusel et al. 2017
//! (1706.08500) call FID on the features of one network. Sampling errors of a covariance add up, so that
//! it is above 0 for sets of one distribution, the more the fewer images there are.

use serde::{Deserialize, Serialize};

use super::{Judged, Matrix, eigen};

/// The distance and its two parts. In JSON, all fields.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Frechet {
    /// The squared distance, as FID is one.
    pub distance: f64,
    pub of_means: f64,
    pub of_covariances: f64,
}

/// The distance of two sets of features of one width; unbiased covariances, as NumPy's `cov`.
pub fn frechet(x: &Matrix, y: &Matrix) -> Judged<Frechet> {
    let (d, fewest) = (x.width(), x.len().min(y.len()));
    if fewest <= d {
        return Judged::not(format!("{fewest} images in a set: {d} features need {}", d + 1));
    }
    let ((mean1, cov1), (mean2, cov2)) = (moments(x), moments(y));
    let of_means = super::squared_distance(&mean1, &mean2);
    let trace = |a: &[f64]| (0..d).map(|i| a[i * d + i]).sum::<f64>();
    let root = square_root(&cov1, d);
    let between = multiply(&multiply(&root, &cov2, d), &root, d);
    let (values, _) = eigen::symmetric(symmetrised(&between, d), d);
    let cross: f64 = values.iter().map(|v| v.max(0.0).sqrt()).sum();
    let of_covariances = trace(&cov1) + trace(&cov2) - 2.0 * cross;
    Judged::Value(Frechet { distance: of_means + of_covariances, of_means, of_covariances })
}

/// Mean [d] and covariance [d x d].
fn moments(x: &Matrix) -> (Vec<f64>, Vec<f64>) {
    let (n, d) = (x.len() as f64, x.width());
    let mut mean = vec![0.0; d];
    for row in x.rows() {
        mean.iter_mut().zip(row).for_each(|(m, v)| *m += v / n);
    }
    let mut cov = vec![0.0; d * d];
    for row in x.rows() {
        for i in 0..d {
            let a = (row[i] - mean[i]) / (n - 1.0);
            for j in 0..d {
                cov[i * d + j] += a * (row[j] - mean[j]);
            }
        }
    }
    (mean, symmetrised(&cov, d))
}

/// (a + a^T) / 2: rounding may have made it otherwise.
fn symmetrised(a: &[f64], d: usize) -> Vec<f64> {
    (0..d * d).map(|i| 0.5 * (a[i] + a[i % d * d + i / d])).collect()
}

/// The symmetric root of a covariance; what rounding made negative counts as 0.
fn square_root(a: &[f64], d: usize) -> Vec<f64> {
    let (values, v) = eigen::symmetric(a.to_vec(), d);
    let roots: Vec<f64> = values.iter().map(|v| v.max(0.0).sqrt()).collect();
    let entry = |i: usize| {
        let (row, column) = (&v[i / d * d..][..d], &v[i % d * d..][..d]);
        row.iter().zip(column).zip(&roots).map(|((a, b), root)| a * b * root).sum()
    };
    (0..d * d).map(entry).collect()
}

fn multiply(a: &[f64], b: &[f64], d: usize) -> Vec<f64> {
    let entry = |i: usize| (0..d).map(|k| a[i / d * d + k] * b[k * d + i % d]).sum();
    (0..d * d).map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::recorded;
    use super::*;

    fn of(x: &Matrix, y: &Matrix) -> Frechet {
        match frechet(x, y) {
            Judged::Value(value) => value,
            Judged::NotJudged { not_judged } => panic!("{not_judged}"),
        }
    }

    /// Four points per axis of a cross, at +-s along each: mean m, covariance diagonal.
    fn cross(mean: [f64; 2], deviations: [f64; 2]) -> Matrix {
        // n = 4, so that s = deviation sqrt(3 / 2) has the unbiased variance 2 s^2 / 3.
        let [a, b] = deviations.map(|v| v * 1.5f64.sqrt());
        let at = [[a, 0.0], [-a, 0.0], [0.0, b], [0.0, -b]];
        Matrix::new(at.iter().flat_map(|p| [p[0] + mean[0], p[1] + mean[1]]).collect(), 2)
    }

    /// |m1 - m2|^2 + sum (s1 - s2)^2, and (s1 - s2)^2 on the line.
    #[test]
    fn closed_forms() {
        let d = of(&cross([0.0, 1.0], [1.0, 2.0]), &cross([3.0, -1.0], [4.0, 2.5]));
        assert!((d.of_means - 13.0).abs() < 1e-13, "{d:?}");
        assert!((d.of_covariances - 9.25).abs() < 1e-13, "{d:?}");
        assert_eq!(d.distance, d.of_means + d.of_covariances);
        // Variances 1 and 9: (1 - 3)^2, means 0 and 5.
        let line = |values: [f64; 3]| Matrix::new(values.into(), 1);
        let d = of(&line([-1.0, 0.0, 1.0]), &line([2.0, 5.0, 8.0]));
        assert!((d.distance - 29.0).abs() < 1e-13, "{d:?}");
    }

    /// x, y = recorded(20, 4), recorded(15, 4, 100) of `testing`; in SciPy:
    /// ```python
    /// s, t = np.cov(x.T), np.cov(y.T)
    /// ((x.mean(0) - y.mean(0)) ** 2).sum(), (s + t - 2 * scipy.linalg.sqrtm(s @ t)).trace()
    /// ```
    #[test]
    fn as_in_scipy() {
        let d = of(&recorded(20, 4, 0), &recorded(15, 4, 100));
        for (got, want) in [d.of_means, d.of_covariances].into_iter().zip(FRECHET) {
            // The root of a matrix with eigenvalues of about 1e-2 is good to about eps / 1e-2.
            assert!((got - want).abs() < 1e-12, "{got} is not {want}");
        }
    }
    const FRECHET: [f64; 2] = [0.004_872_172_039_087_335, 0.099_862_436_515_200_33];

    /// 0 from itself, the same in both directions; a constant feature does no harm.
    #[test]
    fn it_is_a_distance() {
        // Variances go from 7e-4 to 1.6: an eigenvalue of a product of two covariances is good to some
        // eps 1.6^2, and its root, 7e-4 at least, to some eps 1.6^2 / 7e-4 = 8e-13. There are three.
        let bound = 5e-12;
        let (x, y) = (recorded(9, 3, 0), recorded(11, 3, 7));
        assert!(of(&x, &x).distance.abs() < bound, "{:?}", of(&x, &x));
        assert!((of(&x, &y).distance - of(&y, &x).distance).abs() < bound);
        let flat =
            |x: &Matrix| Matrix::new(x.rows().flat_map(|r| [r[0], 4.0, r[1], r[2]]).collect(), 4);
        let (a, b) = (of(&flat(&x), &flat(&y)).distance, of(&x, &y).distance);
        // The root of rounding near 0 is 1e-8; its square is not.
        assert!((a - b).abs() < 1e-7, "{a} {b}");
        assert!(frechet(&recorded(3, 3, 0), &x).reason().is_some_and(|r| r.contains("need 4")));
    }
}
