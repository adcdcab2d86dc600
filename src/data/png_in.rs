//! One PNG file into pixels, with its size checked before anything is decoded.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use png::{BitDepth, ColorType, Decoder, Limits, Reader, Transformations};

use super::header::{Budget, Checked};

/// Samples (width x height x channels) of one image.
const MAX_SAMPLES: u64 = 256 << 20;
/// What the decoder may allocate for itself, beside the image.
const DECODER_BYTES: usize = 64 << 20;

/// What must agree between the images of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    pub width: usize,
    pub height: usize,
    /// 1 (gray) or 3 (RGB); an alpha channel is dropped.
    pub channels: usize,
    /// 16 bits a sample instead of 8 (or fewer, which are expanded to 8).
    pub deep: bool,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let colour = if self.channels == 1 { "gray" } else { "RGB" };
        let bits = if self.deep { 16 } else { 8 };
        write!(f, "{} x {} {colour}, {bits} bit", self.width, self.height)
    }
}

/// A file whose header was accepted; nothing is decoded yet.
pub struct Png {
    reader: Reader<BufReader<File>>,
    pub format: Format,
    /// Samples a pixel as decoded, alpha included.
    samples: usize,
}

impl Png {
    /// Opens a file and reads its header. Errors are reasons in words.
    pub fn open(path: &Path) -> Checked<Self> {
        let file = File::open(path).map_err(|e| e.to_string())?;
        let file_bytes = file.metadata().map_err(|e| e.to_string())?.len();
        let limits = Limits { bytes: DECODER_BYTES };
        let mut decoder = Decoder::new_with_limits(BufReader::new(file), limits);
        decoder.set_ignore_text_chunk(true);
        decoder.set_ignore_iccp_chunk(true);
        decoder.set_transformations(Transformations::EXPAND);
        let info = decoder.read_header_info().map_err(|e| e.to_string())?;
        let (width, height) = (u64::from(info.width), u64::from(info.height));
        let pixels = width.saturating_mul(height);
        let fits = |samples: usize| {
            if pixels.saturating_mul(samples as u64) <= MAX_SAMPLES {
                return Ok(());
            }
            Err(format!("{width} x {height} pixels are too many to decode"))
        };
        fits(info.color_type.samples())?;
        let bits =
            pixels.saturating_mul((info.color_type.samples() * info.bit_depth as usize) as u64);
        Budget::of(file_bytes).spend(bits / 8)?;
        let reader = decoder.read_info().map_err(|e| e.to_string())?;
        let (color, depth) = reader.output_color_type();
        // A palette expands to three or four samples a pixel.
        fits(color.samples())?;
        let (width, height) = (width as usize, height as usize);
        let channels = match color {
            ColorType::Grayscale | ColorType::GrayscaleAlpha => 1,
            _ => 3,
        };
        let format = Format { width, height, channels, deep: depth == BitDepth::Sixteen };
        Ok(Png { reader, format, samples: color.samples() })
    }

    pub fn has_alpha(&self) -> bool {
        self.samples != self.format.channels
    }

    /// Decodes 8-bit samples into `out` (height x width x channels).
    pub fn decode_u8(self, out: &mut [u8]) -> Checked<()> {
        let (samples, channels) = (self.samples, self.format.channels);
        let bytes = self.decode()?;
        for (pixel, out) in bytes.chunks_exact(samples).zip(out.chunks_exact_mut(channels)) {
            out.copy_from_slice(&pixel[..channels]);
        }
        Ok(())
    }

    /// Decodes 16-bit samples into `out`, divided by 65535.
    pub fn decode_f32(self, out: &mut [f32]) -> Checked<()> {
        let (samples, channels) = (self.samples, self.format.channels);
        let bytes = self.decode()?;
        for (pixel, out) in bytes.chunks_exact(2 * samples).zip(out.chunks_exact_mut(channels)) {
            for (sample, out) in pixel.chunks_exact(2).zip(out) {
                *out = f32::from(u16::from_be_bytes([sample[0], sample[1]])) / 65_535.0;
            }
        }
        Ok(())
    }

    fn decode(mut self) -> Checked<Vec<u8>> {
        let len = self.reader.output_buffer_size().ok_or("the image is too large")?;
        let mut bytes = vec![0; len];
        self.reader.next_frame(&mut bytes).map_err(|e| e.to_string())?;
        Ok(bytes)
    }
}
