//! Image data sets: `.npz`, `.npy` and `.mat` files, radar signals and PNG folders in, NHWC images
//! in [0, 1] out.
//!
//! Loading keeps the bytes of the file ([`Dataset::load`]); [`Dataset::prepare`] splits, normalises
//! and resizes. Every decision that was guessed is said in `notes`, every doubt in `warnings`.

pub mod arrays;
pub mod atomic;
pub mod batches;
pub mod convert;
pub mod decolor;
pub mod embeddings;
pub mod folder;
pub mod header;
pub mod holdings;
#[cfg(test)]
mod hostile_tests;
pub mod info;
pub mod labels;
pub mod layout;
pub mod listing;
pub mod mat;
pub mod norm;
pub mod npy;
pub mod npz;
pub mod open;
pub mod percentile;
pub mod permute;
pub mod png_in;
pub mod provenance;
pub mod resize;
pub mod signal;
pub mod split;
pub mod synth;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
pub mod write;

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;

pub use batches::BatchOrder;
pub use embeddings::Embeddings;
pub use labels::LabelChoice;
pub use norm::{Norm, Scale, Unit};
pub use npz::Member;
pub use provenance::Provenance;
pub use signal::Transform;
pub use split::{Split, SplitSpec};

use crate::error::{Error, Result};

/// Pixel values, NHWC.
#[derive(Debug, Clone, PartialEq)]
pub enum Pixels {
    /// 0..=255 stands for [0, 1].
    U8(Vec<u8>),
    /// In the unit of the file until [`Dataset::normalise`] maps them to [0, 1].
    F32(Vec<f32>),
}

impl Pixels {
    pub fn len(&self) -> usize {
        match self {
            Pixels::U8(v) => v.len(),
            Pixels::F32(v) => v.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Images of one size with what is known about each.
#[derive(Debug, Clone)]
pub struct Dataset {
    pub pixels: Pixels,
    pub n: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    /// Class numbers, one per image.
    pub labels: Option<Vec<u32>>,
    /// Names of classes 0.., possibly fewer than there are classes: see [`Dataset::class_name`].
    pub class_names: Vec<String>,
    /// Other integers known per image: subject, split, ...
    pub arrays: BTreeMap<String, Vec<i64>>,
    /// Where the data came from, for messages.
    pub source: String,
    /// NumPy's name of the element type in the file, or the PNG format.
    pub dtype: String,
    /// How the pixels were scaled so far.
    pub scale: Scale,
    /// How the pixels were made from radar signals, if they were.
    pub signal: Option<Transform>,
    /// All arrays of the file, used or not.
    pub members: Vec<Member>,
    /// Decisions that were made for the user.
    pub notes: Vec<String>,
    /// Doubts the user should read.
    pub warnings: Vec<String>,
}

/// What to do with a data set before training: the resolved `[data]` settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Preparation {
    pub labels: LabelChoice,
    pub norm: Norm,
    /// Rows and columns to resize to.
    pub size: Option<(usize, usize)>,
    pub split: SplitSpec,
}

impl Dataset {
    /// Opens data whose values are in [0, 1] or `u8`, with labels found by name.
    ///
    /// Fails with exit code 4 if the path is missing or holds no images, if images differ in size,
    /// or if float values are not finite or outside [0, 1].
    pub fn open(path: impl AsRef<Path>) -> Result<Dataset> {
        let mut data = Self::load(path, &LabelChoice::Auto)?;
        data.normalise(&Norm::None, None)?;
        Ok(data)
    }

    /// Data made in memory: `u8` images of shape `[n, height, width, channels]`.
    pub fn from_u8(
        pixels: Vec<u8>,
        shape: [usize; 4],
        labels: Option<Vec<u32>>,
        class_names: Vec<String>,
        source: impl Into<String>,
    ) -> Result<Dataset> {
        let [n, height, width, channels] = shape;
        let source = source.into();
        let len = shape.iter().try_fold(1usize, |len, &d| len.checked_mul(d));
        let labelled = labels.as_ref().is_none_or(|l| l.len() == n);
        if len != Some(pixels.len()) || pixels.is_empty() || !labelled {
            return Err(Error::data("pixels, labels and shape do not agree")
                .at(source)
                .why(format!("{} pixels for shape {shape:?}", pixels.len())));
        }
        Ok(Dataset {
            pixels: Pixels::U8(pixels),
            n,
            height,
            width,
            channels,
            labels,
            class_names,
            arrays: BTreeMap::new(),
            source,
            dtype: "|u1".into(),
            scale: Scale::None,
            signal: None,
            members: Vec::new(),
            notes: Vec::new(),
            warnings: Vec::new(),
        })
    }

    /// Splits, normalises with statistics of the training part only, and resizes.
    pub fn prepare(self, how: &Preparation) -> Result<(Dataset, Split)> {
        self.prepare_as(how, None)
    }

    /// As [`prepare`](Self::prepare), with a scale that was fitted elsewhere, if there is one.
    pub fn prepare_as(
        mut self,
        how: &Preparation,
        scale: Option<Scale>,
    ) -> Result<(Dataset, Split)> {
        let split = how.split.split(&self)?;
        match scale {
            Some(scale) => self.apply(scale)?,
            None => self.normalise(&how.norm, Some(&split.train))?,
        }
        if let Some((height, width)) = how.size {
            self.resize(height, width)?;
        }
        Ok((self, split))
    }

    /// Fits `norm` on the images `rows` (all if `None`) and applies it.
    pub fn normalise(&mut self, norm: &Norm, rows: Option<&[u32]>) -> Result<()> {
        let Pixels::F32(values) = &self.pixels else {
            if *norm != Norm::None {
                self.warnings
                    .push("the pixels are u8 and divided by 255: data.norm is not used".into());
            }
            return Ok(());
        };
        let len = self.image_len();
        let scale = match rows {
            None => norm.fit(values.iter())?,
            Some(rows) => {
                norm.fit(rows.iter().flat_map(|&i| &values[i as usize * len..][..len]))?
            }
        };
        self.apply(scale)
    }

    /// Applies a scale fitted earlier, for example one stored in a checkpoint.
    pub fn apply(&mut self, scale: Scale) -> Result<()> {
        let len = self.image_len();
        let Pixels::F32(values) = &mut self.pixels else { return Ok(()) };
        if scale == Scale::None {
            return self.check_unit_range();
        }
        values.par_chunks_mut(len).for_each(|image| scale.apply(image));
        self.scale = scale;
        Ok(())
    }

    /// Resizes all images by area averaging; values must be in [0, 1] already.
    pub fn resize(&mut self, height: usize, width: usize) -> Result<()> {
        if (height, width) == (self.height, self.width) {
            return Ok(());
        }
        let (len, out_len) = (self.image_len(), height * width * self.channels);
        if out_len == 0 || out_len.checked_mul(self.n).is_none() {
            return Err(Error::usage(format!("images cannot be resized to {height} x {width}")));
        }
        let from = (self.height, self.width);
        let resizer = resize::Resizer::new(from, (height, width), self.channels);
        let mut out = vec![0f32; out_len * self.n];
        out.par_chunks_mut(out_len).enumerate().for_each_init(
            || vec![0f32; len],
            |image, (i, out)| {
                self.image(i, image);
                resizer.apply(image, out);
            },
        );
        self.notes.push(format!("resized from {} x {} to {height} x {width}", from.0, from.1));
        (self.pixels, self.height, self.width) = (Pixels::F32(out), height, width);
        Ok(())
    }

    /// Values of one image.
    pub fn image_len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Height, width, channels.
    pub fn image_shape(&self) -> [usize; 3] {
        [self.height, self.width, self.channels]
    }

    /// Shape of a batch of `n` images.
    pub fn batch_dims(&self, n: usize) -> [usize; 4] {
        [n, self.height, self.width, self.channels]
    }

    /// Copies image `i` into `out`, NHWC (rows x columns x channels), `u8` divided by 255.
    ///
    /// `i` is below `n` and `out` has [`image_len`](Self::image_len) entries.
    pub fn image(&self, i: usize, out: &mut [f32]) {
        let range = i * self.image_len()..(i + 1) * self.image_len();
        match &self.pixels {
            Pixels::U8(v) => {
                for (out, &v) in out.iter_mut().zip(&v[range]) {
                    *out = f32::from(v) / 255.0;
                }
            }
            Pixels::F32(v) => out.copy_from_slice(&v[range]),
        }
    }

    /// Copies the images `rows` one after the other.
    pub fn images(&self, rows: &[u32], out: &mut [f32]) {
        for (&i, out) in rows.iter().zip(out.chunks_exact_mut(self.image_len())) {
            self.image(i as usize, out);
        }
    }

    /// Number of classes: 0 without labels.
    pub fn classes(&self) -> usize {
        let largest = self.labels.iter().flatten().max();
        largest.map_or(0, |&l| (l as usize + 1).max(self.class_names.len()))
    }

    /// The name of a class, or its number.
    pub fn class_name(&self, class: u32) -> String {
        self.class_names.get(class as usize).cloned().unwrap_or_else(|| class.to_string())
    }

    /// `image 3, row 4, column 5, channel 0` of a flat index.
    fn place(&self, flat: usize) -> String {
        let (image, rest) = (flat / self.image_len(), flat % self.image_len());
        let (row, rest) =
            (rest / (self.width * self.channels), rest % (self.width * self.channels));
        let (column, channel) = (rest / self.channels, rest % self.channels);
        format!("image {image}, row {row}, column {column}, channel {channel}")
    }

    fn check_finite(&self) -> Result<()> {
        let Pixels::F32(values) = &self.pixels else { return Ok(()) };
        match values.iter().position(|v| !v.is_finite()) {
            None => Ok(()),
            Some(at) => Err(Error::data(format!("a pixel is {}", values[at]))
                .at(format!("{}: {}", self.source, self.place(at)))
                .why("images must be finite (values are read as 32-bit floats)")
                .help("replace or remove such values, for example with np.nan_to_num")),
        }
    }

    fn check_unit_range(&self) -> Result<()> {
        let Pixels::F32(values) = &self.pixels else { return Ok(()) };
        let Some(at) = values.iter().position(|v| !(0.0..=1.0).contains(v)) else { return Ok(()) };
        let (low, high) = values
            .iter()
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
        Err(Error::data(format!("a pixel is {}, outside [0, 1]", values[at]))
            .at(format!("{}: {}", self.source, self.place(at)))
            .why(format!("the values reach from {low} to {high} and data.norm is \"none\""))
            .help("set data.norm to \"minmax\", \"max-db\" or \"percentile\""))
    }
}
