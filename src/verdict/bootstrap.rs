//! The paired percentile bootstrap over seed x subject x image.
//!
//! The unit is the difference of two arms on one image under one seed. Each draw picks seeds with
//! replacement, subjects with replacement, and for every picked subject as many of its images as it
//! has; the statistic is the mean of the differences over all picked seeds and images. Images are
//! drawn once and used under every drawn seed, since the same images are scored under every seed:
//! drawing them anew for each seed would treat one hard image as several and narrow the interval.
//!
//! Source: B. Efron, R. J. Tibshirani, "An Introduction to the Bootstrap", chapter 13 (percentile
//! intervals). With n units at a level its share of the variance comes out (n - 1)/n of what it is,
//! so that few seeds or subjects give too narrow an interval: [`Interval::notes`] says so.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::arm::Table;
use crate::error::{Error, Result};
use crate::rng::{Rng, Stream};

/// Below this many seeds or subjects an interval carries a note.
pub const FEW: usize = 3;

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

/// (subject, image) and the score there.
type Row<'a> = ((&'a str, u64), f64);

/// Differences by seed, subject and image, complete in all three.
struct Cube {
    /// `[seed][image]`, the images of a subject side by side.
    differences: Vec<Vec<f64>>,
    /// First image of each subject, and the number of images at the end.
    bounds: Vec<usize>,
}

impl Cube {
    fn of(table: &Table) -> Result<Self> {
        let mut seeds: BTreeMap<u64, Vec<Row<'_>>> = BTreeMap::new();
        for (key, &score) in table.scores() {
            seeds.entry(key.seed).or_default().push(((&key.subject, key.image), score));
        }
        let Some((first, images)) = seeds.first_key_value() else {
            return Err(Error::data("no scores to compare").help("evaluate at least one image"));
        };
        let reference: Vec<(&str, u64)> = images.iter().map(|(key, _)| *key).collect();
        for (seed, row) in &seeds {
            if !row.iter().map(|(key, _)| key).eq(&reference) {
                return Err(Error::data(format!("seeds {first} and {seed} have other images"))
                    .why("seeds and images are resampled independently, so all pairs must exist")
                    .help("evaluate every seed on the same held-out images"));
            }
        }
        let starts = |i: &usize| *i == 0 || reference[*i].0 != reference[*i - 1].0;
        let mut bounds: Vec<usize> = (0..reference.len()).filter(starts).collect();
        bounds.push(reference.len());
        let differences = seeds.into_values().map(|row| row.into_iter().map(|(_, v)| v).collect());
        Ok(Cube { differences: differences.collect(), bounds })
    }

    fn subjects(&self) -> usize {
        self.bounds.len() - 1
    }

    fn images(&self) -> usize {
        self.bounds[self.subjects()]
    }

    /// The mean of one resample: a function of (seed, draw) alone.
    fn draw(&self, seed: u64, draw: u64) -> f64 {
        let mut rng = Rng::new(seed, Stream::Bootstrap, draw);
        let mut pick = |n: usize| rng.below(n as u32) as usize;
        let mut seeds = vec![0u32; self.differences.len()];
        for _ in 0..seeds.len() {
            seeds[pick(self.differences.len())] += 1;
        }
        let mut images = vec![0u32; self.images()];
        let mut count = 0;
        for _ in 0..self.subjects() {
            let subject = pick(self.subjects());
            let (start, end) = (self.bounds[subject], self.bounds[subject + 1]);
            for _ in start..end {
                images[start + pick(end - start)] += 1;
            }
            count += end - start;
        }
        let mut sum = 0.0;
        for (times, row) in seeds.iter().zip(&self.differences) {
            if *times > 0 {
                let weighted = row.iter().zip(&images).map(|(d, n)| d * f64::from(*n));
                sum += f64::from(*times) * weighted.sum::<f64>();
            }
        }
        sum / (count * self.differences.len()) as f64
    }
}

/// The percentile interval of the mean of `differences`; the same numbers at any thread count.
pub fn paired_bootstrap(differences: &Table, resampling: &Resampling) -> Result<Interval> {
    let Resampling { draws, level, seed } = *resampling;
    if draws == 0 || !(level > 0.0 && level < 1.0) {
        return Err(Error::usage(format!("a bootstrap of {draws} draws at level {level}"))
            .help("take at least one draw, 10000 as a rule, and a level such as 0.95"));
    }
    let cube = Cube::of(differences)?;
    let mut means: Vec<f64> =
        (0..draws as u64).into_par_iter().map(|draw| cube.draw(seed, draw)).collect();
    means.sort_unstable_by(f64::total_cmp);
    let tail = (1.0 - level) / 2.0;
    let (seeds, subjects) = (cube.differences.len(), cube.subjects());
    Ok(Interval {
        mean: differences.mean(),
        lower: quantile(&means, tail),
        upper: quantile(&means, 1.0 - tail),
        seeds,
        subjects,
        images: cube.images(),
        notes: notes(seeds, subjects),
    })
}

fn notes(seeds: usize, subjects: usize) -> Vec<String> {
    let note = |n: usize, what: &str, varies: &str| {
        (n < FEW).then(|| {
            let known = if n == 1 {
                format!("it says nothing on {varies}")
            } else {
                format!("it understates {varies}")
            };
            format!("The interval rests on {n} {what}, fewer than {FEW}: {known}.")
        })
    };
    let seed = if seeds == 1 { "seed" } else { "seeds" };
    let subject = if subjects == 1 { "test subject" } else { "test subjects" };
    [
        note(seeds, seed, "how much training runs differ"),
        note(subjects, subject, "how much people differ"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The `q` quantile of sorted values by linear interpolation between order statistics.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let below = at.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (at - below as f64) * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(f: impl Fn(u64, u64, u64) -> f64, n: [u64; 3]) -> Table {
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

    /// One level varies at a time; the resampled mean of n values 0 and 1 is binomial(n, 1/2) / n.
    /// For n = 20, P(X <= 5) = .0207 and P(X <= 6) = .0577: the 2.5 % quantile is 6/20, by symmetry
    /// the other 14/20. The standard error of a share of .0207 of 10,000 draws is .0014, a third of the
    /// way to .025.
    #[test]
    fn each_level_alone() {
        let one = |f: fn(u64, u64, u64) -> u64, n: [u64; 3]| {
            let draws = Resampling { draws: 10_000, ..FAST };
            paired_bootstrap(&table(|a, b, c| (f(a, b, c) % 2) as f64, n), &draws).unwrap()
        };
        for interval in [
            one(|seed, _, _| seed, [20, 2, 3]),
            one(|_, subject, _| subject, [2, 20, 3]),
            one(|_, _, image| image, [2, 1, 20]),
        ] {
            assert!((interval.lower - 0.3).abs() < 1e-12, "{interval:?}");
            assert!((interval.upper - 0.7).abs() < 1e-12, "{interval:?}");
            assert!((interval.mean - 0.5).abs() < 1e-12, "{interval:?}");
        }
    }

    /// Images crossed with seeds: more seeds do not narrow what comes from the images.
    #[test]
    fn images_are_shared_by_seeds() {
        let width = |seeds| {
            let i = paired_bootstrap(&table(|_, _, c| (c % 2) as f64, [seeds, 1, 20]), &FAST);
            let i = i.unwrap();
            i.upper - i.lower
        };
        assert!((width(1) - width(16)).abs() <= 0.1 && width(16) > 0.3);
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
        assert!(constant.notes.is_empty());
        let single = paired_bootstrap(&table(|_, _, _| 0.0, [1, 1, 1]), &FAST).unwrap();
        assert!(single.contains_zero());
        assert!(single.notes[0].contains("1 seed,"), "{:?}", single.notes);
        assert!(single.notes[1].contains("1 test subject,"), "{:?}", single.notes);
        let two = paired_bootstrap(&table(|_, _, _| 0.0, [2, 3, 1]), &FAST).unwrap();
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

    /// Known truth: d = .4 + seed, subject and image effects, all normal. The nominal 95 % is lowered
    /// by (n - 1)/n at each level and raised a little as a subject's images are drawn twice over.
    #[test]
    fn coverage_on_simulated_sets() {
        const SETS: u64 = 200;
        let covered = (0..SETS).into_par_iter().filter(|&set| {
            let mut rng = Rng::new(77, Stream::Test, set);
            let mut normals =
                |n: u64, sd: f64| -> Vec<f64> { (0..n).map(|_| sd * rng.normal()).collect() };
            let (seeds, subjects) = (normals(12, 0.2), normals(16, 0.3));
            let images = normals(16 * 4, 0.5);
            let rest = normals(12 * 16 * 4, 0.5);
            let truth = 0.4;
            let f = |a: u64, b: u64, c: u64| {
                let image = (b * 4 + c) as usize;
                truth
                    + seeds[a as usize]
                    + subjects[b as usize]
                    + images[image]
                    + rest[a as usize * 64 + image]
            };
            let draws = Resampling { draws: 400, level: 0.95, seed: set };
            let i = paired_bootstrap(&table(f, [12, 16, 4]), &draws).unwrap();
            i.lower <= truth && truth <= i.upper
        });
        let share = covered.count() as f64 / SETS as f64;
        assert!((0.90..=0.98).contains(&share), "{share}");
    }
}
