//! How good generated images are: as a set beside a set of real ones, since they have no pairs.
//!
//! | file | question |
//! |---|---|
//! | [`kid`] | is it one distribution, by a kernel (unbiased, with a standard error) |
//! | [`frechet`] | how far apart are mean and covariance (what FID is) |
//! | [`neighbours`] | how many samples look real, how many real images are reached |
//! | [`memorisation`] | are samples copies of training images |
//! | [`motion`] | do they move alike: Doppler envelopes |
//! | [`evaluation`] | all of it, as one object |
//!
//! None of these numbers means anything alone: their values depend on the features and, but for the
//! kernel distance, on how many images there are. So each stands beside its floor, the same estimator
//! between two disjoint halves of held-out real images, with sets as large and classes as frequent as
//! those of the samples: see [`sets`].

mod eigen;
pub mod evaluation;
pub mod frechet;
pub mod kid;
pub mod memorisation;
pub mod motion;
pub mod neighbours;
pub mod sets;
mod text;

pub use evaluation::{Beside, Circumstances, Evaluation, Transfer, evaluate};
pub use frechet::{Frechet, frechet};
pub use kid::{Kid, kid};
pub use memorisation::{Copies, Memorisation, Nearest, Pair};
pub use motion::{Motion, motion};
pub use neighbours::{PrecisionRecall, precision_recall};
pub use sets::{EqualSets, equal_sets};

use serde::{Deserialize, Serialize};

/// Features of images: a row of `width` numbers for each.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Matrix {
    values: Vec<f64>,
    width: usize,
}

impl Matrix {
    /// Rows of `width`, one after the other; an unfinished row is left out.
    pub fn new(mut values: Vec<f64>, width: usize) -> Self {
        values.truncate(values.len() / width.max(1) * width);
        Matrix { values, width }
    }

    /// Appends a row; the first says how wide all are.
    pub fn push(&mut self, row: &[f64]) {
        if self.values.is_empty() {
            self.width = row.len();
        }
        debug_assert_eq!(row.len(), self.width);
        self.values.extend_from_slice(row);
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn width(&self) -> usize {
        self.width
    }

    pub fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.width..(i + 1) * self.width]
    }

    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.values.chunks_exact(self.width.max(1))
    }

    /// The rows of these numbers, in this order.
    pub fn select(&self, rows: &[u32]) -> Matrix {
        let values = rows.iter().flat_map(|&i| self.row(i as usize)).copied().collect();
        Matrix { values, width: self.width }
    }
}

/// A result, or why there is none: `{"not_judged": "..."}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Judged<T> {
    NotJudged { not_judged: String },
    Value(T),
}

impl<T> Judged<T> {
    pub fn not(reason: impl Into<String>) -> Self {
        Judged::NotJudged { not_judged: reason.into() }
    }

    pub fn value(&self) -> Option<&T> {
        match self {
            Judged::Value(value) => Some(value),
            Judged::NotJudged { .. } => None,
        }
    }

    /// Why there is no value.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Judged::Value(_) => None,
            Judged::NotJudged { not_judged } => Some(not_judged),
        }
    }
}

/// The sum of `term` over pairs of entries, in eight interleaved parts: an order that is fixed and that a
/// compiler can make vector instructions of.
fn sum_over<T: Copy>(a: &[T], b: &[T], term: impl Fn(T, T) -> f64) -> f64 {
    const PARTS: usize = 8;
    let (a, b) = (a.chunks_exact(PARTS), b.chunks_exact(PARTS));
    let rest = a.remainder().iter().zip(b.remainder());
    let rest: f64 = rest.map(|(a, b)| term(*a, *b)).sum();
    let mut parts = [0.0; PARTS];
    for (a, b) in a.zip(b) {
        for (k, part) in parts.iter_mut().enumerate() {
            *part += term(a[k], b[k]);
        }
    }
    parts.iter().sum::<f64>() + rest
}

/// |a - b|^2.
fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    sum_over(a, b, |a, b| (a - b) * (a - b))
}

#[cfg(test)]
mod testing;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_have_all_terms() {
        let numbers: Vec<f64> = (1..=19).map(f64::from).collect();
        assert_eq!(sum_over(&numbers, &numbers, |a, b| a * b), 19.0 * 20.0 * 39.0 / 6.0);
        assert_eq!(squared_distance(&[1.0; 17], &[3.0; 17]), 68.0);
        assert_eq!(squared_distance(&[], &[]), 0.0);
    }

    #[test]
    fn rows_of_a_matrix() {
        let m = Matrix::new(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 2);
        assert_eq!((m.len(), m.row(2)), (3, &[5.0, 6.0][..]));
        assert_eq!(m.select(&[2, 0]).rows().collect::<Vec<_>>(), [[5.0, 6.0], [1.0, 2.0]]);
        let mut grown = Matrix::default();
        assert!(grown.is_empty());
        grown.push(&[1.0, 2.0]);
        assert_eq!(grown, m.select(&[0]));
    }
}
