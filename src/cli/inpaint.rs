//! `vqforge sample --inpaint`: given images, of which a region is made anew.

use super::common::{DeviceArgs, prepared};
use vqforge::error::{Error, Result};
use vqforge::train::Console;
use vqforge::train::codes::Tokenizer;

/// A rectangle of pixels, ends not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    rows: [usize; 2],
    cols: [usize; 2],
}

/// `0:64,32:48`: rows, then columns.
pub fn region(text: &str) -> std::result::Result<Region, String> {
    let range = |text: &str| {
        let (from, to) = text.split_once(':')?;
        let range = [from.trim().parse().ok()?, to.trim().parse().ok()?];
        (range[0] < range[1]).then_some(range)
    };
    let parts = text.split_once(',').and_then(|(rows, cols)| Some((range(rows)?, range(cols)?)));
    let Some((rows, cols)) = parts else {
        return Err("write rows and columns as 0:64,32:48, ends not included".into());
    };
    Ok(Region { rows, cols })
}

/// Images as codes, with what is to be made anew.
#[derive(Debug)]
pub struct Given {
    codes: Vec<u32>,
    /// Of each token of an image: it is kept.
    kept: Vec<bool>,
    labels: Option<Vec<u32>>,
    mask: u32,
}

impl Given {
    /// Encodes the images at `path`. A token is made anew if any pixel of its place is in the region.
    ///
    /// # Errors
    /// Images of another size than the diffusion makes; a region outside of them.
    pub fn open(
        tokenizer: &Tokenizer,
        path: &str,
        region: Region,
        [height, width, _]: [usize; 3],
        device: &DeviceArgs,
        console: &mut Console,
    ) -> Result<Self> {
        if region.rows[1] > height || region.cols[1] > width {
            return Err(Error::usage(format!(
                "the region ends outside of {height} x {width} pixels"
            ))
            .at("--region"));
        }
        let images = prepared(tokenizer, path)?;
        if (images.height, images.width) != (height, width) {
            return Err(Error::data(format!(
                "the images have {} x {} pixels",
                images.height, images.width
            ))
            .at(path)
            .why(format!("the diffusion makes {height} x {width}")));
        }
        let (rows, cols) = tokenizer.grid(&images)?;
        let (codes, _) = tokenizer.encode(device.open(None, console)?, &images)?;
        let (heads, side) = (tokenizer.heads(), height / rows);
        let inside =
            |place: usize, [from, to]: [usize; 2]| place * side < to && (place + 1) * side > from;
        let kept = (0..rows * cols)
            .map(|i| !(inside(i / cols, region.rows) && inside(i % cols / heads, region.cols)));
        let mask = tokenizer.config.model.num_vq_embeddings as u32;
        Ok(Given { codes, kept: kept.collect(), labels: images.labels, mask })
    }

    fn image(&self, sample: usize) -> usize {
        sample % (self.codes.len() / self.kept.len()).max(1)
    }

    /// The class of the image of a sample.
    pub fn label(&self, sample: usize) -> Option<u32> {
        self.labels.as_ref().map(|labels| labels[self.image(sample)])
    }

    /// The tokens of samples `first..first + n`, the mask where they are to be made; images are taken in
    /// turn.
    pub fn tokens(&self, first: usize, n: usize) -> Vec<u32> {
        let length = self.kept.len();
        let of = |sample: usize| {
            let codes = &self.codes[self.image(sample) * length..][..length];
            codes.iter().zip(&self.kept).map(|(&code, &kept)| if kept { code } else { self.mask })
        };
        (first..first + n).flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_read() {
        let want = Region { rows: [0, 64], cols: [32, 48] };
        assert_eq!(region("0:64,32:48"), Ok(want));
        for bad in ["", "0:64", "64:0,0:1", "0:0,0:1", "a:b,c:d", "0-64,0-1"] {
            assert!(region(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn images_are_taken_in_turn() {
        let given = Given {
            codes: vec![1, 2, 3, 4],
            kept: vec![true, false],
            labels: Some(vec![7, 8]),
            mask: 9,
        };
        assert_eq!(given.tokens(1, 3), [3, 9, 1, 9, 3, 9]);
        assert_eq!((given.label(0), given.label(3)), (Some(7), Some(8)));
    }
}
