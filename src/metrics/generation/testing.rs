//! Sets for the tests.

use super::Matrix;
use crate::rng::{Rng, Stream};

/// n x d numbers that NumPy makes as well:
/// `np.sin(1.0 + 0.7 * (first + np.arange(n * d)) ** 1.1).reshape(n, d)`.
pub fn recorded(n: usize, d: usize, first: usize) -> Matrix {
    let value = |i: usize| (1.0 + 0.7 * ((first + i) as f64).powf(1.1)).sin();
    Matrix::new((0..n * d).map(value).collect(), d)
}

/// n draws of N(0, scale^2) in d dimensions.
pub fn gaussians(n: usize, d: usize, index: u64, scale: f64) -> Matrix {
    let mut rng = Rng::new(3, Stream::Test, index);
    Matrix::new((0..n * d).map(|_| scale * rng.normal()).collect(), d)
}
