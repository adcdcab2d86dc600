//! PNG files, 8 bits a sample, gray or RGB, the same bytes for the same pixels.

use std::io::Write;
use std::path::Path;

use png::{BitDepth, ColorType, Encoder};

use super::grid::Raster;
use crate::data::atomic::write_atomically;
use crate::error::Result;

/// The bytes of a PNG file.
pub fn encode(raster: &Raster) -> std::io::Result<Vec<u8>> {
    let too_large = |_| std::io::Error::other("more than 2^32 pixels on a side");
    let width = u32::try_from(raster.width).map_err(too_large)?;
    let height = u32::try_from(raster.height).map_err(too_large)?;
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, width, height);
    encoder.set_color(if raster.channels == 1 { ColorType::Grayscale } else { ColorType::Rgb });
    encoder.set_depth(BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&raster.pixels)?;
    writer.finish()?;
    Ok(bytes)
}

/// Writes a PNG file atomically. Errors have exit code 5.
pub fn write_png(path: &Path, raster: &Raster) -> Result<()> {
    write_atomically(path, |file| file.write_all(&encode(raster)?))
}

/// Width and height of a PNG file, from its first chunk. None: it is no PNG file.
pub fn size(file: &[u8]) -> Option<(u32, u32)> {
    let head = file.strip_prefix(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")?;
    let word = |at: usize| Some(u32::from_be_bytes(head.get(at..at + 4)?.try_into().ok()?));
    Some((word(0)?, word(4)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::Scratch;
    use crate::data::{Dataset, Pixels};

    #[test]
    fn read_back() {
        let dir = Scratch::new("png");
        for channels in [1, 3] {
            let pixels: Vec<u8> = (0..5 * 4 * channels).map(|v| (v * 4) as u8).collect();
            let raster = Raster { width: 5, height: 4, channels, pixels: pixels.clone() };
            assert_eq!(size(&encode(&raster).unwrap()), Some((5, 4)));
            let path = dir.file(&format!("{channels}/a.png"), b"old");
            write_png(&path, &raster).unwrap();
            let data = Dataset::open(path.parent().unwrap()).unwrap();
            assert_eq!((data.height, data.width, data.channels), (4, 5, channels));
            assert_eq!(data.pixels, Pixels::U8(pixels));
        }
        assert_eq!(size(b"\x89PNG\r\n"), None);
        let empty = Raster { width: 0, height: 4, channels: 1, pixels: vec![] };
        assert_eq!(write_png(&dir.path("e.png"), &empty).unwrap_err().exit_code(), 5);
        assert!(!dir.path("e.png").exists());
    }
}
