//! The `[data.augment]` section: random changes of training images.

use serde::{Deserialize, Serialize};

use super::check::{Bounds, Violation, real, whole};

/// What a shift brings in at the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Edge {
    /// The other end of the image: for periodic motion.
    #[default]
    Circular,
    /// The last column or row again.
    Repeat,
}

/// Random changes of training images, all off by default. Rows are Doppler, columns are time.
///
/// Flips change what an image means, so they are probabilities of their own: turned in time,
/// sitting down is standing up; turned in Doppler, coming is going. Turning Doppler is safe for
/// the labels of gait-like classes only, turning time for hardly any.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Largest shift in time, either way, as a share of the columns.
    pub time_shift: f64,
    /// What a shift in time brings in.
    pub time_edge: Edge,
    /// Largest share of the columns cut off; the rest is stretched to the full width.
    pub time_crop: f64,
    /// Largest shift in Doppler, either way, as a share of the rows; the edge is repeated.
    pub doppler_shift: f64,
    /// Largest change of the level, either way, dB.
    pub gain_db: f64,
    /// dB between black and white, for `gain_db`, `noise_db` and scores in dB; 0: as the data were
    /// made, and 40 for `gain_db` and `noise_db` where that is not known.
    pub range_db: f64,
    /// Standard deviation of noise added to each pixel, dB.
    pub noise_db: f64,
    /// Spans of time set to black.
    pub time_masks: usize,
    /// The longest of them, as a share of the columns.
    pub time_mask: f64,
    /// Probability of turning time around.
    pub flip_time: f64,
    /// Probability of turning Doppler around.
    pub flip_doppler: f64,
}

impl Augment {
    /// Whether images are changed at all.
    pub fn is_on(&self) -> bool {
        let Augment { time_shift, time_crop, doppler_shift, gain_db, noise_db, .. } = *self;
        let masks = if self.time_masks > 0 { self.time_mask } else { 0.0 };
        [time_shift, time_crop, doppler_shift, gain_db, noise_db, masks]
            .iter()
            .chain([&self.flip_time, &self.flip_doppler])
            .any(|&amount| amount > 0.0)
    }

    /// The ranges of all keys.
    pub fn check(&self) -> Result<(), Violation> {
        real("data.augment.time_shift", self.time_shift, Bounds::Closed(0.0, 1.0))?;
        real("data.augment.time_crop", self.time_crop, Bounds::Closed(0.0, 0.9))?;
        real("data.augment.doppler_shift", self.doppler_shift, Bounds::Closed(0.0, 0.5))?;
        real("data.augment.gain_db", self.gain_db, Bounds::Closed(0.0, 60.0))?;
        real("data.augment.range_db", self.range_db, Bounds::Closed(0.0, 400.0))?;
        real("data.augment.noise_db", self.noise_db, Bounds::Closed(0.0, 60.0))?;
        whole("data.augment.time_masks", self.time_masks as u64, 0, 16)?;
        real("data.augment.time_mask", self.time_mask, Bounds::Closed(0.0, 0.9))?;
        real("data.augment.flip_time", self.flip_time, Bounds::Closed(0.0, 1.0))?;
        real("data.augment.flip_doppler", self.flip_doppler, Bounds::Closed(0.0, 1.0))
    }
}
