//! What the generation rule compares: how far the samples of diffusions over two arms are from real images.

use serde::{Deserialize, Serialize};

use super::arm::Table;
use super::bootstrap::{Interval, Resampling, paired_bootstrap};
use super::judge::Judged;
use crate::error::Result;

/// KID of the samples of one diffusion, the one of the arm trained with `seed`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SampleDistance {
    pub seed: u64,
    /// Squared kernel distance from held-out images.
    pub kid: f64,
    /// By the jackknife.
    pub standard_error: f64,
}

/// Of every seed, or why there are none.
pub type SampleDistances = std::result::Result<Vec<SampleDistance>, String>;

/// Distances are told in thousandths, as the field does.
const UNIT: f64 = 1e3;

/// Mean KID over seeds.
pub(super) fn mean(distances: &[SampleDistance]) -> f64 {
    distances.iter().map(|d| d.kid).sum::<f64>() / distances.len() as f64
}

/// 1000 (KID(`other`) - KID(`own`)): above 0 the samples of `own` are closer to real images.
///
/// Seeds differ, and sets of images are samples: the interval is the wider one of the bootstrap over seeds
/// and of the normal one by the jackknife's errors. Those have a part of the samples, which are others under
/// every seed, and a part of the reference images, which are the same for all: as the two are not told
/// apart, more seeds do not narrow the second interval.
pub(super) fn closer(
    own: &SampleDistances,
    other: &SampleDistances,
    resampling: &Resampling,
) -> Result<Judged> {
    let (own, other) = match (own, other) {
        (Ok(own), Ok(other)) => (own, other),
        (Err(why), _) | (_, Err(why)) => return Ok(Err(why.clone())),
    };
    let of = |distances: &[SampleDistance], sign: f64| -> Result<Table> {
        let mut table = Table::new();
        for d in distances {
            table.insert(d.seed, "samples", 0, sign * UNIT * d.kid)?;
        }
        Ok(table)
    };
    let differences = of(other, 1.0)?.zip(&of(own, -1.0)?, |a, b| a + b)?;
    let seeds = paired_bootstrap(&differences, resampling)?;
    let squares: f64 = own.iter().chain(other).map(|d| (UNIT * d.standard_error).powi(2)).sum();
    let reach = normal_reach(resampling.level) * (squares / own.len() as f64).sqrt();
    // The bootstrap speaks of people and images as well: here there are none.
    let notes = seeds.notes.iter().filter(|note| note.contains("seed")).cloned().collect();
    Ok(Ok(Interval {
        lower: seeds.lower.min(seeds.mean - reach),
        upper: seeds.upper.max(seeds.mean + reach),
        notes,
        ..seeds
    }))
}

/// z with P(|N(0, 1)| < z) = `level`, by bisection of erfc.
fn normal_reach(level: f64) -> f64 {
    let (mut low, mut high) = (0.0, 40.0);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        match libm::erfc(middle / std::f64::consts::SQRT_2) > 1.0 - level {
            true => low = middle,
            false => high = middle,
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Rng, Stream};

    fn distances(kids: &[f64], standard_error: f64) -> SampleDistances {
        let of = |(seed, &kid)| SampleDistance { seed: seed as u64, kid, standard_error };
        Ok(kids.iter().enumerate().map(of).collect())
    }

    fn interval(own: &SampleDistances, other: &SampleDistances) -> Interval {
        closer(own, other, &Resampling { draws: 2000, ..Resampling::default() }).unwrap().unwrap()
    }

    /// Tables of the normal distribution.
    #[test]
    fn quantiles_of_the_normal() {
        for (level, z) in [(0.95, 1.959_963_985), (0.99, 2.575_829_304), (0.5, 0.674_489_750)] {
            assert!((normal_reach(level) - z).abs() < 1e-8, "{level}");
        }
    }

    /// One seed: the jackknife alone. Errors of .3 and .4 thousandths make .5 together.
    #[test]
    fn one_seed_has_the_error_of_its_samples() {
        let i = interval(&distances(&[0.001], 0.0003), &distances(&[0.003], 0.0004));
        let reach = 1.959_963_985 * 0.5;
        assert!((i.mean - 2.0).abs() < 1e-12);
        assert!((i.lower - (2.0 - reach)).abs() < 1e-6 && (i.upper - (2.0 + reach)).abs() < 1e-6);
        assert!(i.notes.len() == 1 && i.notes[0].contains("1 seed"), "{:?}", i.notes);
    }

    /// Seeds that agree leave the error of the images, .5 in all, whatever their number. Of seeds that differ by
    /// 2 the t of three degrees of freedom would make 3.18 x 1.155 / 2 = 1.84, 1.9 times as much; a bootstrap of
    /// four seeds is not quite that t.
    #[test]
    fn seeds_that_differ_widen() {
        let other = distances(&[0.003, 0.003, 0.003, 0.003], 0.0004);
        let agreed = interval(&distances(&[0.001; 4], 0.0003), &other);
        assert!((agreed.upper - agreed.mean - 1.959_963_985 * 0.5).abs() < 1e-6);
        let apart = interval(&distances(&[0.0, 0.002, 0.0, 0.002], 0.0003), &other);
        assert_eq!(apart.mean, agreed.mean);
        assert!(apart.upper - apart.mean > 1.5 * (agreed.upper - agreed.mean), "{apart:?}");
    }

    /// Half of each error from the reference images, alike for all ten seeds but not for both arms, half from
    /// the samples: nominal intervals of 95 % may miss 5 % of 400 times, and three standard errors of that.
    #[test]
    fn images_that_all_seeds_share_are_not_averaged_away() {
        let mut rng = Rng::new(11, Stream::Test, 0);
        let mut arm = || {
            let shared = rng.normal();
            let kid = |own: f64| 1e-3 * 0.5f64.sqrt() * (shared + own);
            let kids: Vec<f64> = (0..10).map(|_| kid(rng.normal())).collect();
            distances(&kids, 1e-3)
        };
        let resampling = Resampling { draws: 500, ..Resampling::default() };
        let misses = (0..400)
            .filter(|_| !closer(&arm(), &arm(), &resampling).unwrap().unwrap().contains_zero())
            .count() as f64;
        assert!(misses / 400.0 <= 0.05 + 3.0 * (0.05f64 * 0.95 / 400.0).sqrt(), "{misses}");
    }

    #[test]
    fn what_was_not_sampled_is_not_judged() {
        let (some, none) = (distances(&[0.001], 0.0), Err("no samples".to_string()));
        for (own, other) in [(&some, &none), (&none, &some)] {
            let judged = closer(own, other, &Resampling::default()).unwrap();
            assert_eq!(judged.unwrap_err(), "no samples");
        }
        let seeds = closer(&some, &distances(&[0.001, 0.002], 0.0), &Resampling::default());
        assert_eq!(seeds.unwrap_err().exit_code(), 4);
    }
}
