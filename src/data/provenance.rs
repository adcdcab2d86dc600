//! What turns a pixel back into a physical quantity: the transform that made the images and the
//! scale that normalised them. It travels with checkpoints and converted files.

use serde::{Deserialize, Serialize};

use super::signal::{Axes, Level, Transform};
use super::{Dataset, Scale, synth};

/// What the source of simulated images begins with.
pub const SIMULATED: &str = "synth:";

/// How the pixels of a data set came to be.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Provenance {
    pub scale: Scale,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<Transform>,
    /// Physical edges of the images, where the transform tells them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub axes: Option<Axes>,
}

impl Provenance {
    /// Reads what [`Dataset::provenance`] wrote. Errors are reasons in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let found: Provenance = serde_json::from_str(text).map_err(|e| e.to_string())?;
        match found.signal.as_ref().and_then(Transform::violation) {
            Some((key, what, _)) => Err(format!("{key}: {what}")),
            None => Ok(found),
        }
    }

    /// Decibels of pixels in [0, 1], 0 dB being the image's reference: the inverse of the
    /// normalisation and of the transform's levels, up to what was clipped. `None` where nothing
    /// says that the pixels are decibels.
    pub fn to_db(&self, pixels: &[f32]) -> Option<Vec<f64>> {
        let levels = |v: f32| self.scale.invert(v);
        match (&self.signal, self.scale) {
            (Some(t), Scale::None | Scale::Affine { .. }) if t.level == Level::Db => {
                Some(pixels.iter().map(|&v| (levels(v) - 1.0) * t.clip_db).collect())
            }
            (None, Scale::MaxDb { .. }) => Some(pixels.iter().map(|&v| levels(v)).collect()),
            _ => None,
        }
    }
}

impl Dataset {
    /// Decibels between a pixel of 0 and one of 1; `None` where nothing says that pixels are
    /// decibels. The simulator's images say it by their source.
    pub fn range_db(&self) -> Option<f64> {
        let ends = self.provenance().to_db(&[0.0, 1.0]).map(|db| db[1] - db[0]);
        ends.or(self.source.starts_with(SIMULATED).then_some(synth::RANGE_DB))
    }

    /// How the pixels came to be; what [`Provenance::parse`] reads, as a JSON object.
    pub fn provenance(&self) -> Provenance {
        // Rows of a finished spectrogram are not known any more: its axis spans the PRF all the same.
        let axes = self.signal.as_ref().map(|t| t.axes(t.nfft));
        Provenance { scale: self.scale, signal: self.signal.clone(), axes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Unit;

    #[test]
    fn decibels_come_back() {
        let signal = Some(Transform { clip_db: 45.0, ..Transform::default() });
        let own = Provenance { signal: signal.clone(), ..Provenance::default() };
        assert_eq!(own.to_db(&[1.0, 0.0, 0.5]), Some(vec![0.0, -45.0, -22.5]));
        let scale = Scale::Affine { low: 0.5, high: 1.0 };
        let stretched = Provenance { scale, signal, axes: None };
        assert_eq!(stretched.to_db(&[1.0, 0.0]), Some(vec![0.0, -22.5]));
        let scale = Scale::MaxDb { clip_db: 40.0, unit: Unit::Power };
        let normalised = Provenance { scale, ..Provenance::default() };
        assert_eq!(normalised.to_db(&[0.25]), Some(vec![-30.0]));
        assert_eq!(Provenance::default().to_db(&[0.5]), None);
        let text = serde_json::to_string(&stretched).unwrap();
        assert_eq!(Provenance::parse(&text).unwrap(), stretched);
        let broken = text.replace("\"clip_db\":45.0", "\"clip_db\":-1");
        assert!(Provenance::parse(&broken).unwrap_err().contains("clip_db"));
    }
}
