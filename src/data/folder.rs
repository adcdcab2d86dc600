//! Folders of PNG files, by class and by part as [`super::listing`] finds them.

use std::path::Path;

use rayon::prelude::*;

use super::Pixels;
use super::listing::{Entry, Listing, Wanted, list};
use super::png_in::{Format, Png};
use crate::error::{Error, Result};

/// The images of a folder.
pub struct Folder {
    pub pixels: Pixels,
    pub n: usize,
    pub format: Format,
    pub labels: Option<Vec<u32>>,
    pub class_names: Vec<String>,
    /// 0 below `train/`, 1 below `test/`; none if the folder has no such parts.
    pub split: Option<Vec<i64>>,
    pub warnings: Vec<String>,
}

const HELP: &str = "put PNG files into one folder per class: root/walk/0001.png, root/run/0001.png";

const PNG: Wanted = Wanted { endings: &["png"], name: "PNG" };

/// Reads a folder. All images must share size, colour and depth.
pub fn read_folder(root: &Path) -> Result<Folder> {
    let mut listing = list(root, PNG)?;
    if listing.entries.is_empty() {
        return Err(Error::data("the folder has no PNG images")
            .at_path(root)
            .why(listing.warnings.first().map_or("nothing ends in .png", |w| w))
            .help(HELP));
    }
    let (labels, class_names) = listing.classes();
    let Listing { entries, parts, mut warnings } = listing;
    let (pixels, format) = decode_all(&entries, &mut warnings)?;
    Ok(Folder {
        pixels,
        n: entries.len(),
        format,
        labels,
        class_names,
        split: parts.then(|| entries.iter().map(|e| e.part).collect()),
        warnings,
    })
}

/// Decodes in parallel; every file must have the format of the first, which is checked from its
/// header. Of several bad files the first in order is reported.
fn decode_all(entries: &[Entry], warnings: &mut Vec<String>) -> Result<(Pixels, Format)> {
    let unreadable = |path: &Path, why: String| {
        Error::data("an image cannot be read")
            .at_path(path)
            .why(why)
            .help("repair or remove the file")
    };
    let first = &entries[0].path;
    let format = Png::open(first).map_err(|why| unreadable(first, why))?.format;
    let len = format.width * format.height * format.channels;
    let total = len.checked_mul(entries.len()).filter(|&t| t <= isize::MAX as usize / 4);
    let total = total.ok_or_else(|| unreadable(first, "all images together overflow".into()))?;

    let open = |entry: &Entry| -> Result<Png> {
        let png = Png::open(&entry.path).map_err(|why| unreadable(&entry.path, why))?;
        if png.format != format {
            return Err(Error::data("the images differ in size or kind")
                .at(format!("{} and {}", first.display(), entry.path.display()))
                .why(format!("the first is {format}, the second {}", png.format))
                .help("bring all images to one size, colour and depth"));
        }
        Ok(png)
    };
    let check = |results: Vec<Result<bool>>, warnings: &mut Vec<String>| -> Result<()> {
        let mut alpha = 0;
        for result in results {
            alpha += usize::from(result?);
        }
        if alpha > 0 {
            warnings.push(format!("the alpha channel of {alpha} images is ignored"));
        }
        Ok(())
    };
    let pixels = if format.deep {
        let mut out = vec![0f32; total];
        let jobs = out.par_chunks_mut(len).zip(entries);
        let job = |(out, entry): (&mut [f32], &Entry)| {
            let png = open(entry)?;
            let alpha = png.has_alpha();
            png.decode_f32(out).map_err(|why| unreadable(&entry.path, why))?;
            Ok(alpha)
        };
        check(jobs.map(job).collect(), warnings)?;
        Pixels::F32(out)
    } else {
        let mut out = vec![0u8; total];
        let jobs = out.par_chunks_mut(len).zip(entries);
        let job = |(out, entry): (&mut [u8], &Entry)| {
            let png = open(entry)?;
            let alpha = png.has_alpha();
            png.decode_u8(out).map_err(|why| unreadable(&entry.path, why))?;
            Ok(alpha)
        };
        check(jobs.map(job).collect(), warnings)?;
        Pixels::U8(out)
    };
    Ok((pixels, format))
}
