//! Order statistics of a handful of samples.

use serde::{Deserialize, Serialize};

/// Median and quartiles, in the unit of the samples. Times are skewed to the right: a mean would
/// measure the interruptions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub min: f64,
    pub q1: f64,
    pub median: f64,
    pub q3: f64,
    pub samples: usize,
}

impl Summary {
    /// `None` without samples. NaN sorts last.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Summary {
            min: *sorted.first()?,
            q1: quantile(&sorted, 0.25),
            median: quantile(&sorted, 0.5),
            q3: quantile(&sorted, 0.75),
            samples: sorted.len(),
        })
    }

    /// Distance of the quartiles as a share of the median.
    pub fn spread(&self) -> f64 {
        (self.q3 - self.q1) / self.median
    }
}

/// Linear interpolation between the two nearest of the sorted samples (Hyndman and Fan's type 7).
fn quantile(sorted: &[f64], p: f64) -> f64 {
    let position = p * (sorted.len() - 1) as f64;
    let (low, share) = (position.floor() as usize, position.fract());
    let high = (low + 1).min(sorted.len() - 1);
    sorted[low] + share * (sorted[high] - sorted[low])
}

/// `exp(mean(ln x))` of positive numbers; `None` without any.
pub(super) fn geometric_mean(values: &[f64]) -> Option<f64> {
    let logs: f64 = values.iter().map(|v| v.ln()).sum();
    (!values.is_empty()).then(|| (logs / values.len() as f64).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of numpy.percentile, which interpolates the same way.
    #[test]
    fn quartiles() {
        let s = Summary::of(&[9.0, 1.0, 3.0, 4.0]).unwrap();
        assert_eq!((s.min, s.q1, s.median, s.q3, s.samples), (1.0, 2.5, 3.5, 5.25, 4));
        assert_eq!(s.spread(), 2.75 / 3.5);
        let one = Summary::of(&[7.0]).unwrap();
        assert_eq!((one.min, one.q1, one.median, one.q3), (7.0, 7.0, 7.0, 7.0));
        assert_eq!(Summary::of(&[]), None);
    }

    /// One interruption moves a mean, not a median.
    #[test]
    fn outliers_do_not_count() {
        let mut samples = vec![1.0; 20];
        samples.push(1000.0);
        let s = Summary::of(&samples).unwrap();
        assert_eq!((s.median, s.spread()), (1.0, 0.0));
    }

    #[test]
    fn geometric() {
        let mean = geometric_mean(&[0.5, 2.0, 1.0]).unwrap();
        assert!((mean - 1.0).abs() < 1e-15);
        let mean = geometric_mean(&[2.0, 8.0]).unwrap();
        assert!((mean - 4.0).abs() < 1e-14);
        assert_eq!(geometric_mean(&[]), None);
    }
}
