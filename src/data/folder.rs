//! Folders of PNG files: `root/*.png`, `root/<class>/*.png`, or either of them below
//! `root/train` and `root/test`. Files are taken in the byte order of their names.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::Pixels;
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

struct Entry {
    path: PathBuf,
    class: Option<String>,
    part: i64,
}

/// Files and folders directly below a folder, sorted, hidden ones left out.
struct Listing {
    pngs: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    others: usize,
}

const HELP: &str = "put PNG files into one folder per class: root/walk/0001.png, root/run/0001.png";

/// Reads a folder. All images must share size, colour and depth.
pub fn read_folder(root: &Path) -> Result<Folder> {
    let mut warnings = Vec::new();
    let top = list(root)?;
    let part = |name: &str| top.folders.iter().find(|p| p.file_name() == Some(OsStr::new(name)));
    let mut entries = Vec::new();
    let parts = match (part("train"), part("test")) {
        (Some(train), Some(test)) => {
            for other in top.folders.iter().filter(|p| *p != train && *p != test) {
                warnings.push(format!("{} is neither train nor test: ignored", other.display()));
            }
            collect(train, 0, &mut entries, &mut warnings)?;
            collect(test, 1, &mut entries, &mut warnings)?;
            true
        }
        _ => {
            collect(root, 0, &mut entries, &mut warnings)?;
            false
        }
    };
    if entries.is_empty() {
        return Err(Error::data("the folder has no PNG images")
            .at_path(root)
            .why(warnings.first().cloned().unwrap_or_else(|| "nothing ends in .png".into()))
            .help(HELP));
    }

    let classes: BTreeSet<&String> = entries.iter().filter_map(|e| e.class.as_ref()).collect();
    let class_names: Vec<String> = classes.into_iter().cloned().collect();
    let label = |e: &Entry| class_names.binary_search(e.class.as_ref()?).ok().map(|c| c as u32);
    let labels: Option<Vec<u32>> = entries.iter().map(label).collect();
    if labels.is_none() && !class_names.is_empty() {
        warnings.push("some images are in no class folder: no labels are used".into());
    }
    let (pixels, format) = decode_all(&entries, &mut warnings)?;
    Ok(Folder {
        pixels,
        n: entries.len(),
        format,
        class_names: if labels.is_some() { class_names } else { Vec::new() },
        labels,
        split: parts.then(|| entries.iter().map(|e| e.part).collect()),
        warnings,
    })
}

fn list(folder: &Path) -> Result<Listing> {
    let bad = |e: std::io::Error| Error::data("the folder cannot be listed").at_path(folder).why(e);
    let mut listing = Listing { pngs: Vec::new(), folders: Vec::new(), others: 0 };
    for entry in std::fs::read_dir(folder).map_err(bad)? {
        let path = entry.map_err(bad)?.path();
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if hidden {
            continue;
        }
        let png = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("png"));
        if path.is_dir() {
            listing.folders.push(path);
        } else if png {
            listing.pngs.push(path);
        } else {
            listing.others += 1;
        }
    }
    listing.pngs.sort();
    listing.folders.sort();
    Ok(listing)
}

/// The images of one part: those in class folders if there are any, else the loose ones.
fn collect(
    root: &Path,
    part: i64,
    entries: &mut Vec<Entry>,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let top = list(root)?;
    let before = entries.len();
    let mut others = top.others;
    for folder in &top.folders {
        let inside = list(folder)?;
        others += inside.others;
        if !inside.folders.is_empty() {
            warnings.push(format!("folders below {} are ignored", folder.display()));
        }
        let class = folder.file_name().map(|n| n.to_string_lossy().into_owned());
        let entry = |path| Entry { path, class: class.clone(), part };
        entries.extend(inside.pngs.into_iter().map(entry));
    }
    if entries.len() == before {
        let entry = |path| Entry { path, class: None, part };
        entries.extend(top.pngs.into_iter().map(entry));
    } else if !top.pngs.is_empty() {
        let count = top.pngs.len();
        warnings.push(format!(
            "{count} images beside the class folders of {} are ignored",
            root.display()
        ));
    }
    if others > 0 {
        warnings.push(format!("{others} files below {} are not PNG: ignored", root.display()));
    }
    Ok(())
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
