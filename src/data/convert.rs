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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::Scratch;
    use crate::data::write::write_npz;

    /// Coloured pictures in class folders become one channel, and come back from the archive.
    #[test]
    fn coloured_pictures() {
        let dir = Scratch::new("convert");
        let table = Colours::Turbo.table();
        for (class, level) in [("walk", 40u8), ("run", 200)] {
            let mut bytes = Vec::new();
            let mut encoder = png::Encoder::new(&mut bytes, 2, 2);
            encoder.set_color(png::ColorType::Rgb);
            let mut writer = encoder.write_header().unwrap();
            let pixels: Vec<u8> = [table[level as usize]; 4].concat();
            writer.write_image_data(&pixels).unwrap();
            writer.finish().unwrap();
            dir.file(&format!("in/{class}/1.png"), &bytes);
        }
        let how = Conversion { decolormap: Some(Colours::Turbo), ..Conversion::default() };
        let data = how.run(&dir.path("in"), &LabelChoice::Auto).unwrap();
        let npz = dir.path("out.npz");
        write_npz(&npz, &data).unwrap();
        let back = Dataset::open(&npz).unwrap();
        assert_eq!((back.channels, back.class_names.join(",")), (1, "run,walk".into()));
        assert_eq!(back.pixels, Pixels::U8([[200; 4], [40; 4]].concat()));
        let wrong = Conversion { decolormap: Some(Colours::Jet), ..Conversion::default() };
        let error = wrong.run(&dir.path("in"), &LabelChoice::Auto).unwrap_err().to_string();
        assert!(error.contains("not coloured with jet"), "{error}");
        let gray = Conversion { gray: true, ..Conversion::default() };
        assert_eq!(gray.run(&dir.path("in"), &LabelChoice::Auto).unwrap().channels, 1);
        // A chain wants recordings, and there are only pictures.
        let chain = Conversion { signal: Some(Transform::default()), ..Conversion::default() };
        assert_eq!(chain.run(&dir.path("in"), &LabelChoice::Auto).unwrap_err().exit_code(), 4);
    }
}
