//! From floats in any unit to [0, 1].
//!
//! Spectrograms come as amplitudes, powers or decibels. A [`Norm`] says how to map them; fitting it
//! on the training images gives a [`Scale`], which is what is stored in a checkpoint: it maps
//! held-out data in the same way and turns generated images back into the unit of the file.

use serde::{Deserialize, Serialize};

use super::percentile::percentile;
use crate::error::{Error, Result};

/// Unit of the float data, for [`Norm::MaxDb`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    #[default]
    Db,
    /// 20 log10.
    Amplitude,
    /// 10 log10.
    Power,
}

/// How float data are mapped to [0, 1]. `u8` data are always divided by 255.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Norm {
    /// The values are in [0, 1] already; anything else is an error.
    #[default]
    None,
    /// The smallest value of the training images to 0, the largest to 1.
    MinMax,
    /// Each image relative to its own maximum, clipped `clip_db` below it.
    MaxDb { clip_db: f64, unit: Unit },
    /// The `low` and `high` percentiles (0 to 100) of the training values to 0 and 1, clipped.
    Percentile { low: f64, high: f64 },
}

/// A fitted normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Scale {
    #[default]
    None,
    /// `(x - low) / (high - low)`, clipped to [0, 1].
    Affine { low: f64, high: f64 },
    /// `1 + (dB(x) - max over the image of dB(x)) / clip_db`, clipped to [0, 1].
    MaxDb { clip_db: f64, unit: Unit },
}

/// Percentiles are read from at most this many values, taken at a fixed stride.
const MAX_SAMPLE: usize = 1 << 22;

impl Norm {
    /// Fits the scale on `values`: the pixels of the training images, in any order, all finite.
    pub fn fit<'a>(&self, values: impl Iterator<Item = &'a f32> + Clone) -> Result<Scale> {
        let (low, high) = match *self {
            Norm::None => return Ok(Scale::None),
            Norm::MaxDb { clip_db, unit } => return Ok(Scale::MaxDb { clip_db, unit }),
            Norm::MinMax => {
                let values = values.map(|&v| f64::from(v));
                values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)))
            }
            Norm::Percentile { low, high } => {
                let stride = values.clone().count().div_ceil(MAX_SAMPLE).max(1);
                let mut sample: Vec<f32> = values.step_by(stride).copied().collect();
                (percentile(&mut sample, low), percentile(&mut sample, high))
            }
        };
        if low < high {
            return Ok(Scale::Affine { low, high });
        }
        Err(Error::data("the training images are constant: there is nothing to normalise")
            .at("data.norm")
            .why(format!("the lower end {low} is not below the upper end {high}"))
            .help("look at the data with `vqforge data info`, or widen data.percentiles"))
    }
}

impl Scale {
    /// Maps one image in place. Values are finite afterwards: zero amplitude counts as the floor.
    pub fn apply(&self, image: &mut [f32]) {
        match *self {
            Scale::None => {}
            Scale::Affine { low, high } => {
                for v in image {
                    *v = ((f64::from(*v) - low) / (high - low)).clamp(0.0, 1.0) as f32;
                }
            }
            Scale::MaxDb { clip_db, unit } => {
                let db = |v: f32| match unit {
                    Unit::Db => f64::from(v),
                    Unit::Amplitude => 20.0 * f64::from(v.abs()).log10(),
                    Unit::Power => 10.0 * f64::from(v.abs()).log10(),
                };
                let peak = image.iter().map(|&v| db(v)).fold(f64::NEG_INFINITY, f64::max);
                if peak == f64::NEG_INFINITY {
                    // Zero amplitude everywhere: all floor, although each pixel equals the peak.
                    return image.fill(0.0);
                }
                for v in image {
                    *v = (1.0 + (db(*v) - peak) / clip_db).clamp(0.0, 1.0) as f32;
                }
            }
        }
    }

    /// The value a normalised pixel stands for: the unit of the file, or dB below the image's
    /// maximum for [`Scale::MaxDb`].
    pub fn invert(&self, v: f32) -> f64 {
        let v = f64::from(v);
        match *self {
            Scale::None => v,
            Scale::Affine { low, high } => low + v * (high - low),
            Scale::MaxDb { clip_db, .. } => (v - 1.0) * clip_db,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minmax_round_trip() {
        let data = [-40.0f32, -10.0, 0.0, 25.0];
        let scale = Norm::MinMax.fit(data.iter()).unwrap();
        let mut image = data;
        scale.apply(&mut image);
        assert_eq!((image[0], image[3]), (0.0, 1.0));
        for (v, want) in image.iter().zip(data) {
            // One rounding of a value in [0, 1] to f32, magnified by the range of 65.
            assert!((scale.invert(*v) - f64::from(want)).abs() <= 65.0 * f64::from(f32::EPSILON));
        }
        assert_eq!(Norm::MinMax.fit([1.0f32; 5].iter()).unwrap_err().exit_code(), 4);
        assert_eq!(Norm::MinMax.fit([].iter()).unwrap_err().exit_code(), 4);
    }

    #[test]
    fn max_db() {
        let scale = |unit| Norm::MaxDb { clip_db: 40.0, unit }.fit([].iter()).unwrap();
        let mut db = [-3.0f32, -23.0, -43.0, -90.0];
        scale(Unit::Db).apply(&mut db);
        assert_eq!(db, [1.0, 0.5, 0.0, 0.0]);
        let mut amplitude = [10.0f32, 1.0, 0.1, 0.0];
        scale(Unit::Amplitude).apply(&mut amplitude);
        for (v, want) in amplitude.iter().zip([1.0, 0.5, 0.0, 0.0]) {
            // 0.1 is not exact in f32: a relative error of eps is 20 eps / ln 10 dB, over 40.
            assert!((v - want).abs() <= f32::EPSILON, "{v} {want}");
        }
        let mut power = [100.0f32, 1.0, 1e-6, 0.0];
        scale(Unit::Power).apply(&mut power);
        assert_eq!(power, [1.0, 0.5, 0.0, 0.0]);
        let mut zeros = [0.0f32; 4];
        scale(Unit::Power).apply(&mut zeros);
        assert_eq!(zeros, [0.0; 4]);
        assert_eq!(scale(Unit::Db).invert(0.5), -20.0);
    }

    #[test]
    fn percentiles() {
        let data: Vec<f32> = (0..=1000).rev().map(|v| v as f32).collect();
        let scale = Norm::Percentile { low: 1.0, high: 99.8 }.fit(data.iter()).unwrap();
        assert_eq!(scale, Scale::Affine { low: 10.0, high: 998.0 });
        let mut clipped = [0.0f32, 504.0, 1000.0];
        scale.apply(&mut clipped);
        assert_eq!(clipped, [0.0, 0.5, 1.0]);
        let text = serde_json::to_string(&scale).unwrap();
        assert_eq!(serde_json::from_str::<Scale>(&text).unwrap(), scale);
    }
}
