//! `vqforge data info`: what is in a file or folder, and how it would be read.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::{Dataset, LabelChoice, Member, Pixels};
use crate::error::Result;

/// The facts about a data set, for people (`Display`) and programs (`Serialize`).
#[derive(Debug, Clone, Serialize)]
pub struct Info {
    pub source: String,
    pub images: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub dtype: String,
    /// In the unit of the file.
    pub min: f64,
    pub max: f64,
    pub mean: f64,
    /// Images of each class, in class order.
    pub classes: Vec<ClassCount>,
    /// How often each value occurs, for the integer arrays with few values.
    pub arrays: BTreeMap<String, BTreeMap<i64, usize>>,
    pub members: Vec<Member>,
    pub notes: Vec<String>,
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClassCount {
    pub name: String,
    pub images: usize,
}

/// Arrays with more distinct values than this are not counted.
const MAX_VALUES: usize = 50;
/// A class this many times smaller than the largest is worth a warning.
const IMBALANCE: usize = 10;

impl Info {
    /// Reads a file or folder. Values may be in any unit.
    pub fn read(path: impl AsRef<Path>) -> Result<Info> {
        Ok(Info::of(&Dataset::load(path, &LabelChoice::Auto)?))
    }

    pub fn of(data: &Dataset) -> Info {
        let (min, max, mean) = range(&data.pixels);
        let mut counts = vec![0; data.classes()];
        for &label in data.labels.iter().flatten() {
            counts[label as usize] += 1;
        }
        let class =
            |(c, &images): (usize, &usize)| ClassCount { name: data.class_name(c as u32), images };
        let mut warnings = data.warnings.clone();
        let largest = counts.iter().copied().max().unwrap_or(0);
        if data.labels.is_none() {
            warnings.push("no labels: conditional training is not possible".into());
        }
        let empty: Vec<String> = (0..counts.len())
            .filter(|&c| counts[c] == 0)
            .map(|c| data.class_name(c as u32))
            .collect();
        if !empty.is_empty() {
            warnings.push(format!("no image of class {}", empty.join(", ")));
        }
        if counts.iter().any(|&c| c > 0 && c * IMBALANCE < largest) {
            warnings
                .push(format!("a class has fewer than 1/{IMBALANCE} of the largest one's images"));
        }
        if min == max {
            warnings.push("all pixels are equal".into());
        }
        if data.arrays.is_empty() {
            warnings.push(
                "nothing says which person or recording an image is from: a random split may \
                 put the same one on both sides"
                    .into(),
            );
        }
        let arrays = data.arrays.iter().filter_map(|(name, values)| {
            let mut counts = BTreeMap::new();
            for &value in values {
                *counts.entry(value).or_insert(0) += 1;
            }
            (counts.len() <= MAX_VALUES).then(|| (name.clone(), counts))
        });
        Info {
            source: data.source.clone(),
            images: data.n,
            height: data.height,
            width: data.width,
            channels: data.channels,
            dtype: data.dtype.clone(),
            min,
            max,
            mean,
            classes: counts.iter().enumerate().map(class).collect(),
            arrays: arrays.collect(),
            members: data.members.clone(),
            notes: data.notes.clone(),
            warnings,
        }
    }
}

fn range(pixels: &Pixels) -> (f64, f64, f64) {
    let fold = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, f64::NEG_INFINITY, 0.0), |(low, high, sum), v| {
            (low.min(v), high.max(v), sum + v)
        })
    };
    let (low, high, sum) = match pixels {
        Pixels::U8(v) => fold(&mut v.iter().map(|&v| f64::from(v))),
        Pixels::F32(v) => fold(&mut v.iter().map(|&v| f64::from(v))),
    };
    (low, high, sum / pixels.len() as f64)
}

impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row =
            |f: &mut fmt::Formatter<'_>, key: &str, text: String| writeln!(f, "  {key:<10}{text}");
        writeln!(f, "{}", self.source)?;
        let (h, w, c) = (self.height, self.width, self.channels);
        row(f, "images", format!("{} of {h} x {w}, {c} channel(s)", self.images))?;
        row(f, "type", self.dtype.clone())?;
        let (min, max, mean) = (self.min, self.max, self.mean);
        row(f, "range", format!("{min:.4} .. {max:.4}, mean {mean:.4}"))?;
        for member in &self.members {
            let Member { name, dtype, shape, role } = member;
            row(f, "array", format!("{name}: {dtype} {shape:?}, {role}"))?;
        }
        for class in &self.classes {
            row(f, "class", format!("{:>6} x {}", class.images, class.name))?;
        }
        for (name, counts) in &self.arrays {
            let counts: Vec<String> = counts.iter().map(|(v, n)| format!("{v}: {n}")).collect();
            row(f, name, counts.join(", "))?;
        }
        for note in &self.notes {
            row(f, "note", note.clone())?;
        }
        for warning in &self.warnings {
            row(f, "warning", warning.clone())?;
        }
        Ok(())
    }
}
