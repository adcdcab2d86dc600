//! What is compared: arms with one score an image.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::samples::SampleDistances;
use crate::error::{Error, Result};
use crate::metrics::{Gate, Usage};

/// Which image, of whom, reconstructed by the model of which seed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    pub seed: u64,
    pub subject: String,
    pub image: u64,
}

/// One finite score a key. Every seed has the same images: seeds and images are crossed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    scores: BTreeMap<Key, f64>,
}

impl Table {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a score. Not finite, or a second one for the key: an error. For the infinite PSNR of an
    /// exact copy take `ImageScores::psnr_capped`.
    pub fn insert(&mut self, seed: u64, subject: &str, image: u64, score: f64) -> Result<()> {
        let place = format!("seed {seed}, subject {subject}, image {image}");
        if !score.is_finite() {
            return Err(Error::data(format!("a score of {score}"))
                .at(place)
                .why("means and intervals need a finite number for every image")
                .help("train the arm again if it diverged"));
        }
        let key = Key { seed, subject: subject.to_string(), image };
        if self.scores.insert(key, score).is_some() {
            return Err(Error::data("two scores for one image").at(place));
        }
        Ok(())
    }

    pub fn scores(&self) -> &BTreeMap<Key, f64> {
        &self.scores
    }

    /// The plain mean; NaN for an empty table.
    pub fn mean(&self) -> f64 {
        self.scores.values().sum::<f64>() / self.scores.len() as f64
    }

    /// `combine` of the scores of every key. An error unless both have the same keys.
    pub fn zip(&self, other: &Table, combine: impl Fn(f64, f64) -> f64) -> Result<Table> {
        let lonely =
            |a: &Table, b: &Table| a.scores.keys().find(|key| !b.scores.contains_key(key)).cloned();
        if let Some(key) = lonely(self, other).or_else(|| lonely(other, self)) {
            return Err(Error::data("two arms that were not scored on the same images")
                .at(format!("seed {}, subject {}, image {}", key.seed, key.subject, key.image))
                .why("only one of them has a score there, and pairs are compared")
                .help("evaluate all arms with the same seeds on the same held-out images"));
        }
        let scores = self.scores.iter().zip(other.scores.values());
        Ok(Table { scores: scores.map(|((k, a), b)| (k.clone(), combine(*a, *b))).collect() })
    }

    /// `f` of every score.
    pub fn map(&self, f: impl Fn(f64) -> f64) -> Table {
        Table { scores: self.scores.iter().map(|(k, v)| (k.clone(), f(*v))).collect() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArmKind {
    /// Discrete codes alone.
    Vq,
    /// A continuous latent under a KL penalty.
    Vae,
    /// Residual codes, or codes and a continuous residual.
    Hybrid,
}

/// The gate on utilisation with its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct UsageGate {
    pub gate: Gate,
    /// Distinct codes / K over the split.
    pub unique_share: f64,
    /// The gate passes above it.
    pub threshold: f64,
    /// Tokens counted.
    pub tokens: u64,
}

impl UsageGate {
    /// `threshold` is 0.8 in the rule that users start from.
    pub fn of(usage: &Usage, threshold: f64) -> Self {
        UsageGate {
            gate: usage.gate(threshold),
            unique_share: usage.unique_share,
            threshold,
            tokens: usage.tokens,
        }
    }

    /// The worst of several codebooks, such as the heads of a quantiser under all seeds; of equal
    /// gates the least used. `None` of none.
    pub fn worst<'a>(usages: impl Iterator<Item = &'a Usage>, threshold: f64) -> Option<Self> {
        let gates = usages.map(|usage| UsageGate::of(usage, threshold));
        gates.max_by(|a, b| a.gate.cmp(&b.gate).then(b.unique_share.total_cmp(&a.unique_share)))
    }
}

/// One model, trained with several seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    pub name: String,
    pub kind: ArmKind,
    /// Bits an image: tokens times log2 K or the empirical entropy; KL / ln 2 of a VAE.
    pub rate: f64,
    /// Of arms with codes.
    pub usage: Option<UsageGate>,
    /// PSNR in dB of every image. A VAE's is decoded from a sampled latent: its mean would carry
    /// bits that the rate does not count.
    pub psnr: Table,
    /// Of diffusion over its codes, or of Gaussian diffusion of a VAE's latents.
    pub samples: SampleDistances,
    /// Of Gaussian diffusion of its code vectors, rounded to codes; `None`: there was none.
    pub hybrid_samples: Option<SampleDistances>,
}
