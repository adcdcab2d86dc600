//! Any readable input into one archive of ready images.

use std::path::Path;

use super::decolor::{Colours, to_gray};
use super::{Dataset, LabelChoice, Norm, Pixels, Transform};
use crate::error::{Error, Result};

/// What a conversion does, in this order.
#[derive(Debug, Clone, Default)]
pub struct Conversion {
    /// Makes images of signals; without it the input must hold images.
    pub signal: Option<Transform>,
    /// The variable that holds the signals.
    pub array: Option<String>,
    /// The map by which pictures were coloured: back to its levels.
    pub decolormap: Option<Colours>,
    /// RGB to luminance.
    pub gray: bool,
    /// For float images outside [0, 1].
    pub norm: Norm,
}

impl Conversion {
    /// Reads and converts; [`write_npz`](super::write::write_npz) writes the result.
    ///
    /// # Errors
    /// Exit code 4: unreadable input, and pictures that are not of the colour map.
    pub fn run(&self, path: &Path, labels: &LabelChoice) -> Result<Dataset> {
        let mut data = match &self.signal {
            Some(transform) => {
                std::fs::metadata(path)
                    .map_err(|e| Error::data("the data cannot be opened").at_path(path).why(e))?;
                Dataset::from_signals(path, labels, transform, self.array.as_deref())?
            }
            None => Dataset::load(path, labels)?,
        };
        data.normalise(&self.norm, None)?;
        if let Some(colours) = self.decolormap {
            colours.undo(&mut data)?;
        }
        if self.gray && data.channels == 3 {
            to_gray(&mut data);
        }
        Ok(data)
    }
}

impl Dataset {
    /// Replaces the pixels by `u8` ones of `channels` channels and the same size.
    pub(super) fn replace_pixels(&mut self, pixels: Vec<u8>, channels: usize) {
        self.pixels = Pixels::U8(pixels);
        self.channels = channels;
    }
}
