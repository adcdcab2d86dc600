//! How much is masked at time t, and how training times are drawn.

use crate::config::NoiseSchedule;
use std::f64::consts::FRAC_PI_2;

/// alpha(t): the probability that a token is still visible at t in [0, 1]; 1 at 0, 0 at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule(pub NoiseSchedule);

impl Schedule {
    pub fn alpha(self, t: f64) -> f64 {
        match self.0 {
            NoiseSchedule::Linear => 1.0 - t,
            NoiseSchedule::Cosine => 1.0 - (FRAC_PI_2 * (1.0 - t)).cos(),
        }
    }

    /// Probability of being masked.
    pub fn masked(self, t: f64) -> f64 {
        match self.0 {
            NoiseSchedule::Linear => t,
            NoiseSchedule::Cosine => (FRAC_PI_2 * (1.0 - t)).cos(),
        }
    }

    /// -alpha'(t) / (1 - alpha(t)): the weight of the cross-entropy in the continuous-time bound
    /// (MDLM, equation 10).
    pub fn weight(self, t: f64) -> f64 {
        match self.0 {
            NoiseSchedule::Linear => 1.0 / t,
            NoiseSchedule::Cosine => FRAC_PI_2 * (FRAC_PI_2 * (1.0 - t)).tan(),
        }
    }
}

/// Low-variance times for `n` samples: ((u + i) / n) mod 1, moved into [t_min, 1] (MDLM, appendix
/// C.3). `first` and `out.len()` select a part of the batch.
pub fn stratified_times(u: f64, n: usize, first: usize, t_min: f64, out: &mut [f64]) {
    for (i, t) in out.iter_mut().enumerate() {
        let even = ((u + (first + i) as f64) / n as f64).fract();
        *t = t_min + (1.0 - t_min) * (1.0 - even);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The weight is minus the derivative of alpha over 1 - alpha, and masked is 1 - alpha.
    #[test]
    fn weight_is_the_derivative() {
        for schedule in [Schedule(NoiseSchedule::Linear), Schedule(NoiseSchedule::Cosine)] {
            assert!((schedule.alpha(0.0) - 1.0).abs() < 1e-15 && schedule.alpha(1.0).abs() < 1e-15);
            for t in [0.01, 0.2, 0.5, 0.9, 0.99] {
                let h = 1e-5;
                let slope = (schedule.alpha(t + h) - schedule.alpha(t - h)) / (2.0 * h);
                let want = -slope / (1.0 - schedule.alpha(t));
                // Central difference: h^2 |alpha'''| / 6 < 1e-10, over 1 - alpha >= 0.01.
                assert!((schedule.weight(t) - want).abs() < 1e-6 * want, "{schedule:?} {t}");
                assert!((schedule.masked(t) + schedule.alpha(t) - 1.0).abs() < 1e-15);
            }
        }
    }

    #[test]
    fn times_cover_the_interval_evenly() {
        let mut all = vec![0.0; 8];
        stratified_times(0.3, 8, 0, 1e-3, &mut all);
        let mut parts = vec![0.0; 8];
        stratified_times(0.3, 8, 0, 1e-3, &mut parts[..4]);
        stratified_times(0.3, 8, 4, 1e-3, &mut parts[4..]);
        assert_eq!(all, parts);
        all.sort_by(f64::total_cmp);
        for (i, t) in all.iter().enumerate() {
            let cell = ((t - 1e-3) / (1.0 - 1e-3) * 8.0).ceil() as usize;
            assert_eq!(cell, i + 1, "one time in each eighth");
        }
    }
}
