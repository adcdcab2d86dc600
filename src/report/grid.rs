//! Sheets of images: rows and columns with a gap between.

use super::colormap::Colormap;
use crate::data::write::to_u8;
use crate::error::{Error, Result};

/// Pixels of a picture, `height x width x channels`, 1 (gray) or 3 (RGB) channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raster {
    pub width: usize,
    pub height: usize,
    pub channels: usize,
    pub pixels: Vec<u8>,
}

/// Between neighbouring images, after scaling.
const GAP: usize = 2;
/// The gap's gray: told apart from dark and from bright images.
const GAP_LEVEL: u8 = 96;
/// Larger sheets are a mistake of the caller, not a picture.
const MAX_PIXELS: usize = 1 << 28;

/// How images are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    pub rows: usize,
    pub columns: usize,
    /// Of one image.
    pub height: usize,
    pub width: usize,
    /// 1, or 3 (RGB). Of images with more channels, only the first is shown.
    pub channels: usize,
    /// Each pixel is drawn as a square of this many.
    pub scale: usize,
    /// Applies to single-channel images.
    pub colormap: Colormap,
}

impl Grid {
    /// A gray grid without enlargement for images of `[height, width, channels]`.
    pub fn new(rows: usize, columns: usize, [height, width, channels]: [usize; 3]) -> Self {
        Grid { rows, columns, height, width, channels, scale: 1, colormap: Colormap::Gray }
    }

    /// About as many columns as rows.
    pub fn square(images: usize, shape: [usize; 3]) -> Self {
        let columns = (images as f64).sqrt().ceil() as usize;
        Grid::new(images.div_ceil(columns.max(1)), columns, shape)
    }

    pub fn scaled(self, scale: usize) -> Self {
        Grid { scale, ..self }
    }

    pub fn coloured(self, colormap: Colormap) -> Self {
        Grid { colormap, ..self }
    }

    /// Draws images in [0, 1], NHWC, row by row; cells without an image stay empty, surplus images
    /// are left out.
    pub fn draw(&self, images: &[f32]) -> Result<Raster> {
        let cell = [self.height, self.width].map(|side| side.saturating_mul(self.scale));
        let side = |count: usize, cell: usize| {
            count.saturating_mul(cell).saturating_add(GAP.saturating_mul(count.saturating_sub(1)))
        };
        let (height, width) = (side(self.rows, cell[0]), side(self.columns, cell[1]));
        let len = self.height * self.width * self.channels;
        if len == 0 || !(1..=MAX_PIXELS).contains(&height.saturating_mul(width)) {
            return Err(Error::failed("the picture is empty or too large").why(format!("{self:?}")));
        }
        let gray = self.channels != 3 && self.colormap == Colormap::Gray;
        let samples = if gray { 1 } else { 3 };
        let mut pixels = vec![GAP_LEVEL; height * width * samples];
        for (i, image) in images.chunks_exact(len).take(self.rows * self.columns).enumerate() {
            let top = i / self.columns * (cell[0] + GAP);
            let left = i % self.columns * (cell[1] + GAP);
            for y in 0..cell[0] {
                for x in 0..cell[1] {
                    let from = (y / self.scale * self.width + x / self.scale) * self.channels;
                    let to = ((top + y) * width + left + x) * samples;
                    let out = &mut pixels[to..to + samples];
                    match (samples, self.channels) {
                        (1, _) => out[0] = to_u8(image[from]),
                        (_, 3) => out.copy_from_slice(&std::array::from_fn::<u8, 3, _>(|k| {
                            to_u8(image[from + k])
                        })),
                        _ => out.copy_from_slice(&self.colormap.rgb(image[from])),
                    }
                }
            }
        }
        Ok(Raster { width, height, channels: samples, pixels })
    }
}

/// Three rows of up to `columns` images each: inputs, outputs, and their absolute difference.
pub fn reconstruction_grid(
    inputs: &[f32],
    outputs: &[f32],
    columns: usize,
    shape: [usize; 3],
    scale: usize,
    colormap: Colormap,
) -> Result<Raster> {
    let len = shape.iter().product::<usize>().max(1);
    let columns = columns.min(inputs.len() / len).min(outputs.len() / len);
    let (inputs, outputs) = (&inputs[..columns * len], &outputs[..columns * len]);
    let difference = inputs.iter().zip(outputs).map(|(a, b)| (a - b).abs());
    let all: Vec<f32> = inputs.iter().chain(outputs).copied().chain(difference).collect();
    Grid::new(3, columns, shape).scaled(scale).coloured(colormap).draw(&all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_gap_and_scale() {
        // Three 1 x 2 images in a 2 x 2 grid, doubled: cells 2 x 4, sheet 6 x 10.
        let images = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];
        let raster = Grid::new(2, 2, [1, 2, 1]).scaled(2).draw(&images).unwrap();
        assert_eq!((raster.height, raster.width, raster.channels), (6, 10, 1));
        let g = GAP_LEVEL;
        let first = [0, 0, 51, 51, g, g, 102, 102, 153, 153];
        let gap = [g; 10];
        let last = [204, 204, 255, 255, g, g, g, g, g, g];
        assert_eq!(raster.pixels, [first, first, gap, gap, last, last].concat());
    }

    #[test]
    fn colours() {
        let rgb = Grid::new(1, 1, [1, 1, 3]).draw(&[1.0, 0.0, 0.2]).unwrap();
        assert_eq!((rgb.channels, rgb.pixels), (3, vec![255, 0, 51]));
        let mapped =
            Grid::new(1, 1, [1, 1, 1]).coloured(Colormap::Perceptual).draw(&[0.5]).unwrap();
        assert_eq!(mapped.pixels, Colormap::Perceptual.rgb(0.5));
        let two = Grid::new(1, 1, [1, 1, 2]).draw(&[0.2, 0.9]).unwrap();
        assert_eq!((two.channels, two.pixels), (1, vec![51]));
    }

    #[test]
    fn reconstructions() {
        let raster = reconstruction_grid(&[0.2, 0.4], &[0.4, 0.4], 8, [1, 1, 1], 1, Colormap::Gray);
        let raster = raster.unwrap();
        assert_eq!((raster.height, raster.width), (3 + 2 * GAP, 2 + GAP));
        let at = |row: usize, column: usize| {
            raster.pixels[row * (1 + GAP) * raster.width + column * (1 + GAP)]
        };
        assert_eq!([at(0, 0), at(0, 1), at(1, 0), at(1, 1)], [51, 102, 102, 102]);
        assert_eq!([at(2, 0), at(2, 1)], [51, 0]);
    }

    #[test]
    fn degenerate() {
        assert_eq!(Grid::square(10, [4, 4, 1]), Grid::new(3, 4, [4, 4, 1]));
        assert!(Grid::square(0, [4, 4, 1]).draw(&[]).is_err());
        assert!(Grid::new(1, 1, [1, 1, 1]).scaled(1 << 62).draw(&[0.0]).is_err());
        assert!(reconstruction_grid(&[], &[], 4, [1, 1, 1], 1, Colormap::Gray).is_err());
    }
}
