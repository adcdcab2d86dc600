//! How much is masked at time t, and how training times are drawn.

use crate::config::{NoiseSchedule, Weighting};
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

    /// The weight of the cross-entropy in the bound of T steps at time t = i / T, T (alpha(t - 1/T) -
    /// alpha(t)) / (1 - alpha(t)), where each step stands for all of them (D3PM, appendix A.3; it tends
    /// to [`weight`](Self::weight) as T grows).
    pub fn step_weight(self, t: f64, steps: usize) -> f64 {
        let all = steps as f64;
        let earlier = ((t * all - 1.0) / all).max(0.0);
        all * (self.masked(t) - self.masked(earlier)) / self.masked(t)
    }
}

/// Masking and the weights of its losses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Masking {
    pub schedule: Schedule,
    /// 0: continuous time.
    pub steps: usize,
}

impl Masking {
    /// `t` in (0, 1], or the end of the step that it lies in.
    pub fn time(self, t: f64) -> f64 {
        match self.steps {
            0 => t,
            steps => (t * steps as f64).ceil().max(1.0) / steps as f64,
        }
    }

    /// Of the cross-entropy of a masked token at a [`time`](Self::time). [`Weighting::Bound`] is the bound
    /// on the likelihood: its mean over all times, alike, is the loss. The others are none.
    pub fn weight(self, t: f64, weighting: Weighting) -> f64 {
        match (weighting, self.steps) {
            (Weighting::Bound, 0) => self.schedule.weight(t),
            (Weighting::Bound, steps) => self.schedule.step_weight(t, steps),
            (Weighting::Maskgit, _) => 1.0,
            (Weighting::Linear, _) => 1.0 - t,
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

    /// With the true p(x_0 | x_t) = the law of one token and all masked in the end, the mean over all times
    /// of weight times masked share is 1 = the entropy over itself, in any number of steps: each step of
    /// the sum is masked(t) - masked(t - 1/T).
    #[test]
    fn bounds_of_steps_are_the_entropy() {
        for noise in [NoiseSchedule::Linear, NoiseSchedule::Cosine] {
            for steps in [1, 2, 7, 1000] {
                let masking = Masking { schedule: Schedule(noise), steps };
                let share = |i: usize| {
                    let t = masking.time((i as f64 + 0.5) / steps as f64);
                    assert!((t - (i + 1) as f64 / steps as f64).abs() < 1e-15);
                    masking.weight(t, Weighting::Bound) * masking.schedule.masked(t)
                };
                let mean = (0..steps).map(share).sum::<f64>() / steps as f64;
                // Roundings of T terms, below 1 in all.
                assert!((mean - 1.0).abs() < 1e-12, "{noise:?} in {steps}: {mean}");
            }
            // The limit: a difference quotient of 1e-6, off by its half times the second derivative.
            let [masking, limit] =
                [1_000_000, 0].map(|steps| Masking { schedule: Schedule(noise), steps });
            for t in [0.25, 0.5, 0.75] {
                let [a, b] = [masking, limit].map(|m| m.weight(t, Weighting::Bound));
                assert!((a - b).abs() < 1e-5 * b, "{noise:?} at {t}: {a} {b}");
            }
        }
        let masking = Masking { schedule: Schedule(NoiseSchedule::Linear), steps: 4 };
        assert_eq!(masking.weight(0.25, Weighting::Maskgit), 1.0);
        assert_eq!(masking.weight(0.25, Weighting::Linear), 0.75);
        assert_eq!([1e-9, 0.25, 0.26, 1.0].map(|t| masking.time(t)), [0.25, 0.25, 0.5, 1.0]);
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
