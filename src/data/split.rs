//! Which images are for training and which are held out.
//!
//! Radar images of one person resemble each other, so a random split flatters every metric.
//! Splitting by person is the honest default wherever the data say who is who: in an array, in the
//! folder names, or in the file order (`block-in-class`).

use super::Dataset;
use crate::error::{Error, Result};
use crate::rng::{Rng, Stream};

/// How to split; `[data.split]` of the configuration.
#[derive(Debug, Clone, PartialEq)]
pub enum SplitSpec {
    /// Held out: images whose entry of the integer array `name` is in `test`.
    Array { name: String, test: Vec<i64> },
    /// Held out: what lies below `test/` in an image folder.
    Folder,
    /// Held out, within each class in file order: images whose `position / size` is in `test`.
    BlockInClass { size: usize, test: Vec<i64> },
    /// Held out: a random `fraction` of all images.
    Fraction { fraction: f64, seed: u64 },
}

/// Image numbers in ascending order; the two parts are disjoint and neither is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Split {
    pub train: Vec<u32>,
    pub test: Vec<u32>,
    pub warnings: Vec<String>,
}

/// The integer array that marks the parts of an image folder: 0 train, 1 test.
pub const FOLDER_ARRAY: &str = "split";

/// The random split draws from the shuffling stream at an epoch that no training run reaches.
const SPLIT_EPOCH: u64 = u64::MAX;

impl SplitSpec {
    /// Splits a data set. Fails (exit 4) if what the specification needs is missing or a part
    /// would be empty.
    pub fn split(&self, data: &Dataset) -> Result<Split> {
        let held_out = match self {
            SplitSpec::Array { name, test } => by_array(data, name, test)?,
            SplitSpec::Folder => {
                let parts = data.arrays.get(FOLDER_ARRAY).ok_or_else(|| {
                    bad(data, "the data have no train/ and test/ folders".into())
                        .help("use another data.split.by, for example \"fraction\"")
                })?;
                parts.iter().map(|&p| p == 1).collect()
            }
            SplitSpec::BlockInClass { size, test } => by_block(data, *size, test)?,
            SplitSpec::Fraction { fraction, seed } => by_fraction(data.n, *fraction, *seed),
        };
        let mut split = Split::default();
        for (i, &test) in held_out.iter().enumerate() {
            if test { &mut split.test } else { &mut split.train }.push(i as u32);
        }
        for (part, rows) in [("training", &split.train), ("test", &split.test)] {
            if rows.is_empty() {
                return Err(bad(data, format!("the {part} part is empty"))
                    .why(format!("{self:?} on {} images", data.n))
                    .help("change data.split"));
            }
        }
        split.warnings = classes_without_images(data, &split);
        Ok(split)
    }
}

fn bad(data: &Dataset, what: String) -> Error {
    Error::data(format!("the data cannot be split: {what}")).at(&data.source)
}

fn by_array(data: &Dataset, name: &str, test: &[i64]) -> Result<Vec<bool>> {
    let values = data.arrays.get(name).ok_or_else(|| {
        let known: Vec<&String> = data.arrays.keys().collect();
        bad(data, format!("there is no integer array '{name}'"))
            .why(format!("arrays with one integer per image: {known:?}"))
            .help("set data.split.name to one of them")
    })?;
    for value in test {
        if !values.contains(value) {
            let mut known = values.clone();
            known.sort_unstable();
            known.dedup();
            known.truncate(20);
            return Err(bad(data, format!("no image has '{name}' = {value}"))
                .why(format!("values found: {known:?}"))
                .help("correct data.split.test"));
        }
    }
    Ok(values.iter().map(|v| test.contains(v)).collect())
}

fn by_block(data: &Dataset, size: usize, test: &[i64]) -> Result<Vec<bool>> {
    let labels = data.labels.as_ref().ok_or_else(|| {
        bad(data, "blocks within a class need labels".into())
            .help("set data.labels to the array that holds them")
    })?;
    let mut seen = vec![0usize; data.classes()];
    let held_out = |&label: &u32| {
        let position = &mut seen[label as usize];
        let block = *position / size.max(1);
        *position += 1;
        i64::try_from(block).is_ok_and(|b| test.contains(&b))
    };
    Ok(labels.iter().map(held_out).collect())
}

fn by_fraction(n: usize, fraction: f64, seed: u64) -> Vec<bool> {
    let count = (n as f64 * fraction).round() as usize;
    let mut held_out = vec![false; n];
    let order = Rng::new(seed, Stream::Shuffle, SPLIT_EPOCH).permutation(n);
    for &i in order.iter().take(count) {
        held_out[i as usize] = true;
    }
    held_out
}

/// A class that is present in the data but missing from one part is worth a word.
fn classes_without_images(data: &Dataset, split: &Split) -> Vec<String> {
    let Some(labels) = &data.labels else { return Vec::new() };
    let present = |rows: &mut dyn Iterator<Item = usize>| {
        let mut present = vec![false; data.classes()];
        rows.for_each(|i| present[labels[i] as usize] = true);
        present
    };
    let all = present(&mut (0..data.n));
    let mut warnings = Vec::new();
    for (part, rows) in [("training", &split.train), ("test", &split.test)] {
        let here = present(&mut rows.iter().map(|&i| i as usize));
        let missing: Vec<String> = (0..all.len())
            .filter(|&c| all[c] && !here[c])
            .map(|c| data.class_name(c as u32))
            .collect();
        if !missing.is_empty() {
            warnings.push(format!("the {part} part has no image of {}", missing.join(", ")));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Eight images: two subjects, two classes, in the order 0 0 1 1 0 0 1 1.
    fn eight() -> Dataset {
        let labels = vec![0, 0, 1, 1, 0, 0, 1, 1];
        let mut data =
            Dataset::from_u8(vec![0; 8], [8, 1, 1, 1], Some(labels), vec![], "eight").unwrap();
        data.arrays.insert("subject".into(), vec![3, 3, 3, 5, 5, 5, 5, 5]);
        data
    }

    #[test]
    fn splits() {
        let data = eight();
        let by_subject = SplitSpec::Array { name: "subject".into(), test: vec![5] };
        assert_eq!(by_subject.split(&data).unwrap().train, [0, 1, 2]);
        let block = |size, test: &[i64]| SplitSpec::BlockInClass { size, test: test.to_vec() };
        assert_eq!(block(2, &[1]).split(&data).unwrap().test, [4, 5, 6, 7]);
        assert_eq!(block(3, &[1]).split(&data).unwrap().test, [5, 7]);
        let fraction = |fraction, seed| SplitSpec::Fraction { fraction, seed }.split(&data);
        assert_eq!(fraction(0.25, 1).unwrap().test.len(), 2);
        assert_eq!(fraction(0.25, 1).unwrap(), fraction(0.25, 1).unwrap());
        assert!(
            (2..20)
                .any(|seed| fraction(0.25, 1).unwrap().test != fraction(0.25, seed).unwrap().test)
        );

        let refused = |spec: SplitSpec, data: &Dataset, part: &str| {
            let error = spec.split(data).unwrap_err();
            assert_eq!(error.exit_code(), 4);
            assert!(error.to_string().contains(part), "{error}\nlacks {part}");
        };
        let array =
            |name: &str, test: &[i64]| SplitSpec::Array { name: name.into(), test: test.to_vec() };
        refused(array("person", &[1]), &data, "[\"subject\"]");
        refused(array("subject", &[4]), &data, "values found: [3, 5]");
        refused(array("subject", &[3, 5]), &data, "training part is empty");
        refused(block(2, &[7]), &data, "test part is empty");
        refused(block(2, &[-1]), &data, "test part is empty");
        refused(SplitSpec::Folder, &data, "no train/ and test/");
        refused(SplitSpec::Fraction { fraction: 0.01, seed: 0 }, &data, "test part is empty");
        let unlabelled = Dataset { labels: None, ..data };
        refused(block(2, &[1]), &unlabelled, "need labels");
    }
}
