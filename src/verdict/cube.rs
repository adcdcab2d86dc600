//! Differences of pairs, taken apart by seed, subject and image.

use std::collections::BTreeMap;

use super::arm::Table;
use crate::error::{Error, Result};

/// From these degrees of freedom on Student's t is taken for normal: its 97.5 % quantile is 1.984
/// there, not 1.960.
const MANY: usize = 100;

/// (subject, image) and the score there.
type Row<'a> = ((&'a str, u64), f64);

/// Differences by seed, subject and image, complete in all three, taken apart:
/// `d = mean + seed + subject + image + rest`, the parts of a level with a mean of 0.
pub struct Cube {
    pub mean: f64,
    /// Of each seed.
    pub seed: Vec<f64>,
    /// Of each subject; weighed by its images.
    pub subject: Vec<f64>,
    /// Of each image, within its subject; the images of a subject side by side.
    pub image: Vec<f64>,
    /// `[seed][image]`: what is left.
    pub rest: Vec<Vec<f64>>,
    /// First image of each subject, and the number of images at the end.
    pub bounds: Vec<usize>,
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

impl Cube {
    pub fn of(table: &Table) -> Result<Self> {
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
        Ok(Cube::apart(differences.collect(), bounds))
    }

    /// `differences[seed][image]` into the parts of the levels.
    fn apart(mut differences: Vec<Vec<f64>>, bounds: Vec<usize>) -> Self {
        let seeds: Vec<f64> = differences.iter().map(|row| self::mean(row)).collect();
        let mean = self::mean(&seeds);
        let of_image =
            |i: usize| differences.iter().map(|row| row[i]).sum::<f64>() / seeds.len() as f64;
        let mut image: Vec<f64> = (0..differences[0].len()).map(of_image).collect();
        for (row, seed) in differences.iter_mut().zip(&seeds) {
            row.iter_mut().zip(&image).for_each(|(d, image)| *d -= image + (seed - mean));
        }
        let mut subject = vec![];
        for ends in bounds.windows(2) {
            let own = &mut image[ends[0]..ends[1]];
            let level = self::mean(own);
            own.iter_mut().for_each(|v| *v -= level);
            subject.push(level - mean);
        }
        let seed = seeds.iter().map(|seed| seed - mean).collect();
        Cube { mean, seed, subject, image, rest: differences, bounds }
    }

    /// Images of a subject.
    pub fn size(&self, subject: usize) -> usize {
        self.bounds[subject + 1] - self.bounds[subject]
    }

    /// Degrees of freedom of the variance of the mean, rounded down; `None` if they are many, or if
    /// nothing varies.
    pub fn freedom(&self) -> Option<usize> {
        // Variance of the mean from n parts, each of which is a share of it.
        let level = |parts: &mut dyn Iterator<Item = f64>, n: usize| match n {
            0 | 1 => (0.0, 1.0),
            _ => {
                let squares = parts.map(|v| v * v).sum::<f64>();
                (squares * n as f64 / (n - 1) as f64, (n - 1) as f64)
            }
        };
        let (seeds, subjects, images) = (self.seed.len(), self.subjects(), self.images());
        let share = |subject: usize| self.size(subject) as f64 / images as f64;
        let mut levels = vec![
            level(&mut self.seed.iter().map(|v| v / seeds as f64), seeds),
            level(&mut self.subject.iter().enumerate().map(|(i, v)| v * share(i)), subjects),
        ];
        for i in 0..subjects {
            let own = &self.image[self.bounds[i]..self.bounds[i + 1]];
            levels.push(level(&mut own.iter().map(|v| v / images as f64), own.len()));
        }
        let variance: f64 = levels.iter().map(|(v, _)| v).sum();
        let spread: f64 = levels.iter().map(|(v, df)| v * v / df).sum();
        // A whole number must not fall by its rounding.
        let nu = variance * variance / spread * (1.0 + 1e-9);
        (nu < MANY as f64).then_some((nu as usize).max(1))
    }

    pub fn subjects(&self) -> usize {
        self.bounds.len() - 1
    }

    pub fn images(&self) -> usize {
        self.image.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::bootstrap::tests::table;

    /// The parts add up to the differences, with subjects of 1 to 3 images.
    #[test]
    fn parts_of_the_levels() {
        let differences =
            vec![vec![1.0, 4.0, 2.0, 0.0, 5.0, 7.0], vec![3.0, 1.0, 2.0, 9.0, 6.0, 8.0]];
        let cube = Cube::apart(differences.clone(), vec![0, 1, 3, 6]);
        for (seed, row) in differences.iter().enumerate() {
            for (image, d) in row.iter().enumerate() {
                let subject = [0, 1, 1, 2, 2, 2][image];
                let sum = cube.mean + cube.seed[seed] + cube.subject[subject] + cube.image[image];
                assert!((sum + cube.rest[seed][image] - d).abs() < 1e-12);
            }
        }
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        close(cube.mean, 4.0);
        close(cube.seed[1], 5.0 / 6.0);
        // Image means 2; 2.5, 2; 4.5, 5.5, 7.5.
        close(cube.subject[1], -1.75);
        close(cube.image[0], 0.0);
        close(cube.image[1], 0.25);
        for row in &cube.rest {
            assert!(row.iter().sum::<f64>().abs() < 1e-12);
        }
    }

    /// By hand: two levels of variances V and W with 2 and 4 degrees of freedom.
    #[test]
    fn degrees_of_freedom() {
        let cube = |f: fn(u64, u64, u64) -> f64, n| Cube::of(&table(f, n)).unwrap();
        assert_eq!(cube(|a, _, _| a as f64, [3, 4, 2]).freedom(), Some(2));
        assert_eq!(cube(|_, b, _| b as f64, [3, 5, 2]).freedom(), Some(4));
        // Seeds -1 0 1: V = 2/3 / 2 = 1/3; subjects -2 to 2: W = 10/5 / 4 = 1/2. (5/6)^2 / (1/18 +
        // 1/16) = 5.88.
        assert_eq!(cube(|a, b, _| (a + b) as f64, [3, 5, 2]).freedom(), Some(5));
        assert_eq!(cube(|_, _, c| c as f64, [3, 1, 102]).freedom(), None);
        assert_eq!(cube(|_, _, _| 2.0, [3, 4, 2]).freedom(), None);
    }
}
