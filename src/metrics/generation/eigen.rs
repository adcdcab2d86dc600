//! Eigenvalues and eigenvectors of symmetric matrices: cyclic Jacobi rotations (G. H. Golub, C. F. Van
//! Loan, "Matrix Computations", 4th edition, section 8.5). Slower than a tridiagonal reduction, but
//! short, and accurate to rounding: for a few hundred rows it takes less than a second.

/// Sweeps after which what is left is rounding: convergence is quadratic, and ten are more than any
/// matrix of this size was seen to need.
const MOST_SWEEPS: usize = 30;

/// Of a symmetric n x n matrix, row by row: its eigenvalues in no order, and the eigenvectors as the
/// columns of an n x n matrix in the order of the eigenvalues.
pub fn symmetric(mut a: Vec<f64>, n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut v: Vec<f64> = (0..n * n).map(|i| f64::from(u8::from(i / n == i % n))).collect();
    for _ in 0..MOST_SWEEPS {
        let mut turned = false;
        for p in 0..n {
            for q in p + 1..n {
                let (app, aqq, apq) = (a[p * n + p], a[q * n + q], a[p * n + q]);
                // Too small to change an eigenvalue in f64; its square is what would.
                if apq.abs() <= f64::EPSILON * 1e-3 * (app.abs() * aqq.abs()).sqrt()
                    || apq.abs() < f64::MIN_POSITIVE
                {
                    continue;
                }
                turned = true;
                // The smaller root of t^2 + 2 theta t - 1 = 0 keeps the angle below 45 degrees.
                let theta = (aqq - app) / (2.0 * apq);
                let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
                let c = 1.0 / t.hypot(1.0);
                let s = t * c;
                for k in 0..n {
                    let (akp, akq) = (a[k * n + p], a[k * n + q]);
                    a[k * n + p] = c * akp - s * akq;
                    a[k * n + q] = s * akp + c * akq;
                }
                for k in 0..n {
                    let (apk, aqk) = (a[p * n + k], a[q * n + k]);
                    a[p * n + k] = c * apk - s * aqk;
                    a[q * n + k] = s * apk + c * aqk;
                }
                a[p * n + q] = 0.0;
                a[q * n + p] = 0.0;
                for k in 0..n {
                    let (vkp, vkq) = (v[k * n + p], v[k * n + q]);
                    v[k * n + p] = c * vkp - s * vkq;
                    v[k * n + q] = s * vkp + c * vkq;
                }
            }
        }
        if !turned {
            break;
        }
    }
    ((0..n).map(|i| a[i * n + i]).collect(), v)
}

#[cfg(test)]
mod tests {
    use super::super::testing::recorded;
    use super::*;

    #[test]
    fn two_by_two() {
        // [[2, 1], [1, 2]]: 1 and 3.
        let (mut values, _) = symmetric(vec![2.0, 1.0, 1.0, 2.0], 2);
        values.sort_by(f64::total_cmp);
        assert!((values[0] - 1.0).abs() < 1e-15 && (values[1] - 3.0).abs() < 1e-15, "{values:?}");
        assert_eq!(symmetric(vec![0.0; 4], 2).0, [0.0, 0.0]);
        assert_eq!(symmetric(vec![5.0], 1), (vec![5.0], vec![1.0]));
        assert_eq!(symmetric(vec![], 0), (vec![], vec![]));
    }

    /// V diag(values) V^T is the matrix, V^T V = 1, also of a rank below n.
    #[test]
    fn puts_it_together_again() {
        for (n, rank) in [(7, 7), (12, 3)] {
            let x = recorded(rank, n, 3);
            let mut a = vec![0.0; n * n];
            for row in x.rows() {
                for i in 0..n {
                    for j in 0..n {
                        a[i * n + j] += row[i] * row[j];
                    }
                }
            }
            let (values, v) = symmetric(a.clone(), n);
            let product = |f: &dyn Fn(usize) -> f64, i: usize, j: usize| {
                (0..n).map(|k| f(k) * v[i * n + k] * v[j * n + k]).sum::<f64>()
            };
            let size = a.iter().map(|v| v * v).sum::<f64>().sqrt();
            // Each rotation rounds by some eps |A|; there are a few sweeps of n^2 / 2.
            let bound = 10.0 * (n * n) as f64 * f64::EPSILON;
            for i in 0..n {
                for j in 0..n {
                    let back = product(&|k| values[k], i, j);
                    assert!((back - a[i * n + j]).abs() <= bound * size, "{n}: {i} {j}");
                    let unit = f64::from(u8::from(i == j));
                    assert!((product(&|_| 1.0, i, j) - unit).abs() <= bound, "{n}: {i} {j}");
                }
            }
            let zeros = values.iter().filter(|v| v.abs() <= bound * size).count();
            assert_eq!(zeros, n - rank);
        }
    }
}
