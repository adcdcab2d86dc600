//! The `[data]` section: how the data, whose path is given on the command line, are read.

use serde::{Deserialize, Serialize};

use super::augment::Augment;
use super::signal::Signal;
use crate::data::{LabelChoice, Norm, Preparation, SplitSpec, Transform, Unit};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NormKind {
    None,
    Minmax,
    #[serde(rename = "max-db")]
    MaxDb,
    Percentile,
}

/// How the data, whose path is given on the command line, are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// The array of the labels, `"auto"` or `"none"`.
    pub labels: String,
    /// `[rows, columns]` to resize to; empty keeps the size of the data.
    pub size: Vec<usize>,
    /// How float data are mapped to [0, 1]; `u8` data are divided by 255.
    pub norm: NormKind,
    /// For `norm = "max-db"`: the dynamic range kept below each image's maximum.
    pub clip_db: f64,
    /// For `norm = "max-db"`: `"db"`, `"amplitude"` or `"power"`.
    pub unit: Unit,
    /// For `norm = "percentile"`: what becomes 0 and 1, in percent.
    pub percentiles: [f64; 2],
    pub split: SplitTable,
    pub synth: Synth,
    /// How radar signals become images; none: the data are images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<Signal>,
    /// Random changes of training images.
    pub augment: Augment,
    /// What a diffusion is conditioned on beside the class: a file with an embedding of each image, or
    /// `npz:NAME`, an array of the data's own archive; none: on the class alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embeddings: Option<String>,
}

impl Default for Data {
    fn default() -> Self {
        Data {
            labels: "auto".into(),
            size: Vec::new(),
            norm: NormKind::None,
            clip_db: 40.0,
            unit: Unit::Db,
            percentiles: [1.0, 99.8],
            split: SplitTable::default(),
            synth: Synth::default(),
            signal: None,
            augment: Augment::default(),
            embeddings: None,
        }
    }
}

impl Data {
    /// From signals to images, if the data are signals.
    pub fn transform(&self) -> Option<&Transform> {
        self.signal.as_ref().map(|s| &s.transform)
    }

    /// What to do with a loaded data set.
    pub fn preparation(&self) -> Preparation {
        let norm = match self.norm {
            NormKind::None => Norm::None,
            NormKind::Minmax => Norm::MinMax,
            NormKind::MaxDb => Norm::MaxDb { clip_db: self.clip_db, unit: self.unit },
            NormKind::Percentile => {
                Norm::Percentile { low: self.percentiles[0], high: self.percentiles[1] }
            }
        };
        Preparation {
            labels: LabelChoice::parse(&self.labels),
            norm,
            size: match self.size[..] {
                [height, width] => Some((height, width)),
                _ => None,
            },
            split: self.split.spec(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SplitBy {
    Array,
    Folder,
    BlockInClass,
    Fraction,
}

/// Which images are held out. Which keys apply depends on `by`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SplitTable {
    pub by: SplitBy,
    /// `by = "array"`: the integer array that tells subjects apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `by = "array"`: its held-out values. `by = "block-in-class"`: the held-out blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<Vec<i64>>,
    /// `by = "block-in-class"`: images in a block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
    /// `by = "fraction"`: the held-out share; 0.1 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fraction: Option<f64>,
    /// `by = "fraction"`: of the random choice; 0 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

impl Default for SplitTable {
    fn default() -> Self {
        SplitTable {
            by: SplitBy::Fraction,
            name: None,
            test: None,
            size: None,
            fraction: None,
            seed: None,
        }
    }
}

impl SplitTable {
    /// Makes the defaults of the chosen kind visible in the resolved settings.
    pub fn fill_defaults(&mut self) {
        if self.by == SplitBy::Fraction {
            self.fraction.get_or_insert(0.1);
            self.seed.get_or_insert(0);
        }
    }

    /// The split it describes; keys that a checked table has are never missing here.
    pub fn spec(&self) -> SplitSpec {
        let test = self.test.clone().unwrap_or_default();
        match self.by {
            SplitBy::Array => {
                SplitSpec::Array { name: self.name.clone().unwrap_or_default(), test }
            }
            SplitBy::Folder => SplitSpec::Folder,
            SplitBy::BlockInClass => SplitSpec::BlockInClass { size: self.size.unwrap_or(1), test },
            SplitBy::Fraction => SplitSpec::Fraction {
                fraction: self.fraction.unwrap_or(0.1),
                seed: self.seed.unwrap_or(0),
            },
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SynthPreset {
    Human,
    Rotor,
}

/// What `--data synth` simulates; `--data synth:rotor` overrides the preset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Synth {
    pub preset: SynthPreset,
    /// Number of images.
    pub n: usize,
    /// Rows and columns.
    pub size: usize,
    pub seed: u64,
    /// Noise floor below each spectrogram's peak, in dB; 0: drawn as the preset's radar has it.
    pub floor: f64,
}

impl Synth {
    /// The simulator's range of noise floors; `None` leaves it to the preset.
    pub fn floor_db(&self) -> Option<(f64, f64)> {
        (self.floor > 0.0).then_some((self.floor, self.floor))
    }
}

impl Default for Synth {
    fn default() -> Self {
        Synth { preset: SynthPreset::Rotor, n: 2000, size: 64, seed: 0, floor: 0.0 }
    }
}
