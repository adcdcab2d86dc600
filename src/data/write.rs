//! Data sets as `.npz` files that NumPy reads: `images` (`u8`, NHWC), `labels` and other integers
//! (`i64`), `class_names` (unicode), and as JSON how the pixels were made, where that is known.

use std::io::Write;
use std::path::Path;

use npyz::{DType, WriteOptions, WriterBuilder};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::atomic::write_atomically;
use super::{Dataset, Pixels, Scale, npz};
use crate::error::Result;

/// Members that say more of the images than an integer array does.
const OWN: [&str; 4] = ["images", "labels", "class_names", npz::PROVENANCE];
/// A member at least this large needs the 64-bit form of zip.
const ZIP64_FROM: u64 = u32::MAX as u64 / 2;

/// Writes the data set atomically. Float pixels, which must be in [0, 1], are rounded to the
/// nearest of 256 levels. The same data give the same bytes: no time stamps are stored. An array called
/// as a member of the archive's own becomes `other_NAME`: a reader must not take it for that.
pub fn write_npz(path: &Path, data: &Dataset) -> Result<()> {
    let rounded;
    let pixels: &[u8] = match &data.pixels {
        Pixels::U8(pixels) => pixels,
        Pixels::F32(values) => {
            rounded = values.iter().map(|&v| to_u8(v)).collect::<Vec<_>>();
            &rounded
        }
    };
    let shape = [data.n, data.height, data.width, data.channels];
    write_atomically(path, |file| {
        let mut zip = ZipWriter::new(file);
        member(&mut zip, "images", "|u1", &shape, pixels)?;
        if let Some(labels) = &data.labels {
            ints(&mut zip, "labels", labels.iter().map(|&l| i64::from(l)))?;
        }
        if !data.class_names.is_empty() {
            names(&mut zip, "class_names", &data.class_names)?;
        }
        let mut taken: Vec<String> = OWN.map(String::from).into();
        for (name, values) in &data.arrays {
            let mut name = name.clone();
            while taken.iter().any(|other| other.eq_ignore_ascii_case(&name)) {
                name.insert_str(0, "other_");
            }
            ints(&mut zip, &name, values.iter().copied())?;
            taken.push(name);
        }
        if data.signal.is_some() || data.scale != Scale::None {
            let text = serde_json::to_string(&data.provenance()).map_err(std::io::Error::other)?;
            names(&mut zip, npz::PROVENANCE, &[text])?;
        }
        zip.finish().map_err(std::io::Error::other)?;
        Ok(())
    })
}

/// Writes an array of floats as an `.npy` file, atomically.
pub fn write_npy(path: &Path, shape: &[usize], values: &[f32]) -> Result<()> {
    let shape: Vec<u64> = shape.iter().map(|&d| d as u64).collect();
    write_atomically(path, |file| {
        let options = WriteOptions::<f32>::new().default_dtype().shape(&shape);
        let mut out = options.writer(file).begin_nd()?;
        out.extend(values.iter().copied())?;
        out.finish()
    })
}

/// The nearest of 256 levels to a value in [0, 1]; anything outside is clipped.
pub fn to_u8(v: f32) -> u8 {
    (v * 255.0).round() as u8
}

/// One array, given as the bytes of its elements in C order.
fn member<W: Write + std::io::Seek>(
    zip: &mut ZipWriter<W>,
    name: &str,
    dtype: &str,
    shape: &[usize],
    bytes: &[u8],
) -> std::io::Result<()> {
    let options = SimpleFileOptions::default().large_file(bytes.len() as u64 >= ZIP64_FROM);
    let file_name = npyz::npz::file_name_from_array_name(name);
    zip.start_file(file_name, options).map_err(std::io::Error::other)?;
    let shape: Vec<u64> = shape.iter().map(|&d| d as u64).collect();
    let dtype = dtype.parse().map_err(std::io::Error::other)?;
    WriteOptions::new_header_only()
        .dtype(DType::new_scalar(dtype))
        .shape(&shape)
        .writer(&mut *zip)
        .write_header_only()?;
    zip.write_all(bytes)
}

fn ints<W: Write + std::io::Seek>(
    zip: &mut ZipWriter<W>,
    name: &str,
    values: impl ExactSizeIterator<Item = i64>,
) -> std::io::Result<()> {
    let shape = [values.len()];
    let bytes: Vec<u8> = values.flat_map(i64::to_le_bytes).collect();
    member(zip, name, "<i8", &shape, &bytes)
}

/// NumPy's fixed-width unicode: four bytes a character, padded with zeros.
fn names<W: Write + std::io::Seek>(
    zip: &mut ZipWriter<W>,
    name: &str,
    values: &[String],
) -> std::io::Result<()> {
    let width = values.iter().map(|v| v.chars().count()).max().unwrap_or(0).max(1);
    let mut bytes = Vec::with_capacity(values.len() * width * 4);
    for value in values {
        let end = bytes.len() + width * 4;
        bytes.extend(value.chars().flat_map(|c| u32::from(c).to_le_bytes()));
        bytes.resize(end, 0);
    }
    member(zip, name, &format!("<U{width}"), &[values.len()], &bytes)
}
