//! The paired bootstrap over seed x subject x image, widened for few seeds and subjects.
//!
//! The unit is the difference of two arms on one image under one seed. Each draw picks seeds with
//! replacement, subjects with replacement, and for every picked subject as many of its images as it
//! has; the statistic is the mean of the differences over all picked seeds and images. Images are
//! drawn once and used under every drawn seed, since the same images are scored under every seed:
//! drawing them anew for each seed would treat one hard image as several and narrow the interval.
//!
//! Bare percentiles of such draws (B. Efron, R. J. Tibshirani, "An Introduction to the Bootstrap",
//! chapter 13) are too narrow where a level has few units. So every draw is stretched twice about the
//! mean:
//! * the part of each level, of n units, by sqrt(n / (n - 1)), as resampling shows only (n - 1) / n of
//!   the variance (chapter 14 there);
//! * the whole by sqrt(nu / chi2_nu), chi2_nu drawn anew, so that a draw is distributed as Student's t
//!   rather than as a normal: the variance is itself estimated, with the degrees of freedom
//!   `nu = (sum V)^2 / sum(V^2 / df)` of F. E. Satterthwaite, Biometrics Bulletin 2(6):110, 1946, over
//!   the levels' variances V of the mean.
//!
//! A level of one unit adds nothing, and [`Interval::notes`] says so.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::arm::Table;
use super::cube::Cube;
use crate::error::{Error, Result};
use crate::rng::{Rng, Stream};

/// Up to this many seeds or subjects an interval carries a note.
pub const FEW: usize = 5;

/// How to resample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Resampling {
    pub draws: usize,
    /// Coverage of the interval.
    pub level: f64,
    pub seed: u64,
}

impl Default for Resampling {
    fn default() -> Self {
        Resampling { draws: 10_000, level: 0.95, seed: 0 }
    }
}

/// The mean difference and its interval, in the unit of the scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    pub mean: f64,
    pub lower: f64,
    pub upper: f64,
    /// Nominal coverage.
    pub level: f64,
    /// What the interval rests on.
    pub seeds: usize,
    pub subjects: usize,
    /// Images of one seed.
    pub images: usize,
    /// Plain sentences on what limits the interval.
    pub notes: Vec<String>,
}

impl Interval {
    pub fn contains_zero(&self) -> bool {
        self.lower <= 0.0 && 0.0 <= self.upper
    }
}

/// The mean of one resample, stretched: a function of (seed, draw) alone.
fn draw(cube: &Cube, seed: u64, draw: u64, freedom: Option<usize>) -> f64 {
    let mut rng = Rng::new(seed, Stream::Bootstrap, draw);
    let mut seeds = vec![0u32; cube.seed.len()];
    for _ in 0..seeds.len() {
        seeds[rng.below(cube.seed.len() as u32) as usize] += 1;
    }
    let mut images = vec![0u32; cube.images()];
    let (mut count, mut of_subjects, mut of_images) = (0, 0.0, 0.0);
    for _ in 0..cube.subjects() {
        let subject = rng.below(cube.subjects() as u32) as usize;
        let (start, size) = (cube.bounds[subject], cube.size(subject));
        let widening = widening(size);
        for _ in 0..size {
            let image = start + rng.below(size as u32) as usize;
            images[image] += 1;
            of_images += widening * cube.image[image];
        }
        of_subjects += size as f64 * cube.subject[subject];
        count += size;
    }
    let (mut of_seeds, mut rest) = (0.0, 0.0);
    for ((&times, part), row) in seeds.iter().zip(&cube.seed).zip(&cube.rest) {
        if times > 0 {
            let weighted = row.iter().zip(&images).map(|(d, n)| d * f64::from(*n));
            rest += f64::from(times) * weighted.sum::<f64>();
            of_seeds += f64::from(times) * part;
        }
    }
    let (n, count) = (cube.seed.len() as f64, count as f64);
    let deviation = widening(cube.seed.len()) * of_seeds / n
        + (widening(cube.subjects()) * of_subjects + of_images) / count
        + rest / (n * count);
    let student = freedom.map_or(1.0, |nu| {
        let squares: f64 = (0..nu).map(|_| rng.normal().powi(2)).sum();
        (nu as f64 / squares).sqrt()
    });
    cube.mean + student * deviation
}

/// What makes up for the (n - 1) / n of the variance that a resample of n units shows.
fn widening(n: usize) -> f64 {
    if n > 1 { (n as f64 / (n - 1) as f64).sqrt() } else { 1.0 }
}

/// The interval of the mean of `differences`; the same numbers at any thread count.
pub fn paired_bootstrap(differences: &Table, resampling: &Resampling) -> Result<Interval> {
    let Resampling { draws, level, seed } = *resampling;
    if draws == 0 || !(level > 0.0 && level < 1.0) {
        return Err(Error::usage(format!("a bootstrap of {draws} draws at level {level}"))
            .help("take at least one draw, 10000 as a rule, and a level such as 0.95"));
    }
    let cube = Cube::of(differences)?;
    let freedom = cube.freedom();
    let mut means: Vec<f64> =
        (0..draws as u64).into_par_iter().map(|n| draw(&cube, seed, n, freedom)).collect();
    means.sort_unstable_by(f64::total_cmp);
    let tail = (1.0 - level) / 2.0;
    let (seeds, subjects) = (cube.seed.len(), cube.subjects());
    Ok(Interval {
        mean: differences.mean(),
        lower: quantile(&means, tail),
        upper: quantile(&means, 1.0 - tail),
        level,
        seeds,
        subjects,
        images: cube.images(),
        notes: notes(seeds, subjects),
    })
}

fn notes(seeds: usize, subjects: usize) -> Vec<String> {
    let note = |n: usize, one: &str, many: &str, varies: &str| match n {
        1 => Some(format!(
            "The interval rests on 1 {one}: it says nothing on how much {varies} differ."
        )),
        2..=FEW => Some(format!(
            "The interval rests on {n} {many} only: it is widened for that, on the assumption that \
             {varies} differ normally."
        )),
        _ => None,
    };
    let each = [
        note(seeds, "seed", "seeds", "training runs"),
        note(subjects, "test subject", "test subjects", "people"),
    ];
    each.into_iter().flatten().collect()
}

/// The `q` quantile of sorted values by linear interpolation between order statistics.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let below = at.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (at - below as f64) * (sorted[above] - sorted[below])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn table(f: impl Fn(u64, u64, u64) -> f64, n: [u64; 3]) -> Table {
        let mut table = Table::new();
        for seed in 0..n[0] {
            for subject in 0..n[1] {
                for image in 0..n[2] {
                    let score = f(seed, subject, image);
                    table.insert(seed, &format!("s{subject}"), image, score).unwrap();
                }
            }
        }
        table
    }

    const FAST: Resampling = Resampling { draws: 2000, level: 0.95, seed: 1 };

    /// One level varies at a time, over -1, 0 and 1. The sum T of three draws is -3 to 3 with weights
    /// 1 3 6 7 6 3 1 of 27, its mean T/3 is widened by sqrt(3/2), and chi2_2 / 2 = E is exponential: a
    /// draw is T/3 sqrt(3/2) sqrt(1/E), and P(draw < -x) = sum_T P(T) (1 - exp(-T^2 / (6 x^2))). The
    /// ends of the interval are off by the error of a share of 10,000 draws: three times
    /// sqrt(.025 .975 / 10,000) in the share.
    #[test]
    fn each_level_alone() {
        let one = |f: fn(u64, u64, u64) -> u64, n: [u64; 3]| {
            let draws = Resampling { draws: 10_000, ..FAST };
            paired_bootstrap(&table(|a, b, c| f(a, b, c) as f64 - 1.0, n), &draws).unwrap()
        };
        let tail = |x: f64| -> f64 {
            let of = |t: f64, weight: f64| weight / 27.0 * (1.0 - (-t * t / (6.0 * x * x)).exp());
            of(1.0, 6.0) + of(2.0, 3.0) + of(3.0, 1.0)
        };
        let error = 3.0 * (0.025f64 * 0.975 / 10_000.0).sqrt();
        for interval in [
            one(|seed, _, _| seed, [3, 2, 3]),
            one(|_, subject, _| subject, [2, 3, 3]),
            one(|_, _, image| image, [2, 1, 3]),
        ] {
            for end in [-interval.lower, interval.upper] {
                assert!(end > 0.0 && (tail(end) - 0.025).abs() <= error, "{interval:?}");
            }
            assert!(interval.mean.abs() < 1e-12, "{interval:?}");
        }
    }

    /// Images crossed with seeds: more seeds do not narrow what comes from the images. The same
    /// images are drawn under every seed, so with the same seed of the resampling each draw of 16
    /// seeds has the distribution of one of a single seed. A quantile of 10,000 draws at .025 has a
    /// standard error of sqrt(.025 .975 / 10,000) / f, f the density there: for a normal of standard
    /// deviation s, f = .0584 / s, which gives .027 s, and four ends take part.
    #[test]
    fn images_are_shared_by_seeds() {
        let width = |seeds| {
            let draws = Resampling { draws: 10_000, ..FAST };
            let t = table(|_, _, c| (c % 2) as f64, [seeds, 1, 20]);
            let i = paired_bootstrap(&t, &draws).unwrap();
            i.upper - i.lower
        };
        // 20 values of 0 and 1: s^2 = (1/4) (20/19) / 20.
        let s = (0.25f64 / 19.0).sqrt();
        let error = 3.0 * 0.027 * s * 4f64.sqrt();
        assert!((width(1) - width(16)).abs() <= error, "{} {}", width(1), width(16));
        // Images drawn anew for each of 16 seeds would leave a quarter of it.
        assert!(width(16) > 2.0 * 1.96 * s - error);
    }

    #[test]
    fn same_at_any_thread_count() {
        let t = table(|a, b, c| ((a * 31 + b * 17 + c * 7) % 11) as f64, [3, 4, 5]);
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| paired_bootstrap(&t, &FAST).unwrap())
        };
        assert_eq!(with(1), with(3));
        let other = paired_bootstrap(&t, &Resampling { seed: 2, ..FAST }).unwrap();
        assert_ne!(with(1).lower, other.lower);
    }

    #[test]
    fn ties_and_small_sets() {
        let constant = paired_bootstrap(&table(|_, _, _| 2.0, [3, 3, 4]), &FAST).unwrap();
        assert_eq!((constant.lower, constant.mean, constant.upper), (2.0, 2.0, 2.0));
        assert!(constant.notes[0].contains("3 seeds only"), "{:?}", constant.notes);
        let many = paired_bootstrap(&table(|_, _, _| 2.0, [6, 6, 1]), &FAST).unwrap();
        assert!(many.notes.is_empty());
        let single = paired_bootstrap(&table(|_, _, _| 0.0, [1, 1, 1]), &FAST).unwrap();
        assert!(single.contains_zero());
        assert!(single.notes[0].contains("1 seed:"), "{:?}", single.notes);
        assert!(single.notes[1].contains("1 test subject:"), "{:?}", single.notes);
        let two = paired_bootstrap(&table(|_, _, _| 0.0, [2, 6, 1]), &FAST).unwrap();
        assert!(two.notes.len() == 1 && two.notes[0].contains("2 seeds"), "{:?}", two.notes);
    }

    #[test]
    fn refused() {
        let mut t = table(|_, _, _| 1.0, [2, 1, 2]);
        assert!(t.insert(0, "s0", 9, f64::NAN).is_err());
        assert!(t.insert(0, "s0", 9, f64::INFINITY).is_err());
        assert!(t.insert(0, "s0", 1, 1.0).is_err(), "a second score");
        t.insert(0, "s0", 9, 1.0).unwrap();
        let error = paired_bootstrap(&t, &FAST).unwrap_err().to_string();
        assert!(error.contains("seeds 0 and 1"), "{error}");
        assert!(paired_bootstrap(&Table::new(), &FAST).is_err());
        let none = Resampling { draws: 0, ..FAST };
        assert!(paired_bootstrap(&table(|_, _, _| 1.0, [1, 1, 1]), &none).is_err());
    }

    /// How often the nominal 95 % covers a known truth: d = .4 + seed, subject and image effects, all
    /// normal, of standard deviations .2, .3, .5 and .5 for the rest.
    fn coverage(sets: u64, [a, b, c]: [u64; 3]) -> f64 {
        let covered = (0..sets).into_par_iter().filter(|&set| {
            let mut rng = Rng::new(77, Stream::Test, set);
            let mut normals =
                |n: u64, sd: f64| -> Vec<f64> { (0..n).map(|_| sd * rng.normal()).collect() };
            let (seeds, subjects) = (normals(a, 0.2), normals(b, 0.3));
            let (images, rest) = (normals(b * c, 0.5), normals(a * b * c, 0.5));
            let truth = 0.4;
            let f = |i: u64, j: u64, k: u64| {
                let image = (j * c + k) as usize;
                let own = rest[i as usize * images.len() + image];
                truth + seeds[i as usize] + subjects[j as usize] + images[image] + own
            };
            let draws = Resampling { draws: 400, level: 0.95, seed: set };
            let i = paired_bootstrap(&table(f, [a, b, c]), &draws).unwrap();
            i.lower <= truth && truth <= i.upper
        });
        covered.count() as f64 / sets as f64
    }

    /// The default of a comparison and a large one. A share of n sets has a standard error of
    /// sqrt(.95 .05 / n); three of them are allowed, and as much again above, as a subject's images
    /// are drawn twice over. Bare percentiles cover 87 % of sets of 3 x 3 x 20.
    #[test]
    fn coverage_on_simulated_sets() {
        for (sets, shape) in [(400, [3, 3, 20]), (150, [12, 16, 4])] {
            let share = coverage(sets, shape);
            let error = 3.0 * (0.95 * 0.05 / sets as f64).sqrt();
            assert!(share >= 0.95 - error && share <= 0.95 + 2.0 * error, "{shape:?}: {share}");
        }
    }
}
