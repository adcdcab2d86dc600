//! Files and folders of recordings into images.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::recordings::{Found, pick};
use super::{Chain, Transform};
use crate::data::layout::{Guess, Layout};
use crate::data::npz::Raw;
use crate::data::{Pixels, arrays};
use crate::error::{Error, Result};

const EXTENSIONS: [&str; 3] = ["mat", "npy", "npz"];
/// The key under which an image remembers its recording, its segment and its file.
pub const RECORDING: &str = "recording";
pub const SEGMENT: &str = "segment";
pub const FILE: &str = "file";

/// A file of recordings and the class folder it lies in.
struct Source {
    path: PathBuf,
    class: Option<usize>,
}

/// Whether a folder holds recordings rather than pictures, in itself or in its class folders.
pub fn is_folder_of_recordings(root: &Path) -> Result<bool> {
    Ok(!sources(root)?.0.is_empty())
}

/// Makes images of all recordings of a file, or of a folder `root/<class>/<file>` or `root/<file>`,
/// files in the order of their names.
///
/// `array` names the variable; else it is found by its numbers. Images carry the integers known
/// per recording and the numbers of their recording, segment and file.
///
/// # Errors
/// Exit code 4: what cannot be read as recordings, and no recording as long as a segment.
pub fn load(path: &Path, transform: &Transform, array: Option<&str>) -> Result<Raw> {
    let chain = Chain::new(transform);
    let (sources, mut class_names) = match path.is_dir() {
        true => sources(path)?,
        false => (vec![Source { path: path.into(), class: None }], Vec::new()),
    };
    let mut raw = Raw {
        pixels: Pixels::F32(Vec::new()),
        guess: Guess { layout: Layout::Nhw, nhwc: [0; 4], doubt: None },
        dtype: String::new(),
        arrays: Vec::new(),
        class_names: Vec::new(),
        members: Vec::new(),
        warnings: Vec::new(),
        provenance: None,
    };
    let mut pixels: Vec<f32> = Vec::new();
    let (mut n, mut recordings, mut short) = (0usize, 0usize, 0usize);
    let several = sources.len() > 1;
    for (file, source) in sources.iter().enumerate() {
        let bad = |why: String| {
            Error::data("the recordings cannot be read")
                .at_path(&source.path)
                .why(why)
                .help("look at the file with `vqforge data info`; [data.signal] says what it holds")
        };
        let (named, skipped) = arrays::read_file(&source.path)?;
        raw.warnings.extend(skipped);
        let Found { recordings: parts, arrays: mut ints, class_names: names, members } =
            pick(named, array, transform).map_err(bad)?;
        let images: Vec<Vec<Vec<f32>>> = parts
            .par_iter()
            .map(|r| chain.images(r).map_err(|why| bad(format!("{}: {why}", r.name))))
            .collect::<Vec<_>>()
            .into_iter()
            .collect::<Result<_>>()?;
        if file == 0 {
            raw.dtype = parts.first().map_or("signal", |r| kind(r.complex)).into();
            raw.members = members;
        }
        if !names.is_empty() {
            raw.class_names = names;
        }
        if let Some(class) = source.class {
            ints.retain(|(name, _)| !name.eq_ignore_ascii_case("labels"));
            ints.push(("labels".into(), vec![class as i64; parts.len()]));
        }
        // An array counts only if every file has it: the first file decides what is kept.
        let per_image = |value: &dyn Fn(usize, usize) -> i64| -> Vec<i64> {
            let each = images.iter().enumerate();
            each.flat_map(|(r, s)| (0..s.len()).map(move |s| (r, s)))
                .map(|(r, s)| value(r, s))
                .collect()
        };
        let mut columns: Vec<(String, Vec<i64>)> =
            ints.iter().map(|(name, v)| (name.clone(), per_image(&|r, _| v[r]))).collect();
        columns.push((RECORDING.into(), per_image(&|r, _| (recordings + r) as i64)));
        columns.push((SEGMENT.into(), per_image(&|_, s| s as i64)));
        if several {
            columns.push((FILE.into(), per_image(&|_, _| file as i64)));
        }
        merge(&mut raw.arrays, columns, n);
        recordings += parts.len();
        short += images.iter().filter(|s| s.is_empty()).count();
        for image in images.iter().flatten() {
            pixels.extend_from_slice(image);
            n += 1;
        }
    }
    if short > 0 {
        raw.warnings.push(format!(
            "{short} of {recordings} recordings are shorter than a segment of {} s: skipped",
            transform.segment
        ));
    }
    if n == 0 {
        return Err(Error::data("no recording is as long as a segment")
            .at_path(path)
            .why(format!("{recordings} recordings, segments of {} s", transform.segment))
            .help("lower data.signal.segment; 0 makes one image of each recording"));
    }
    if !class_names.is_empty() {
        raw.class_names = std::mem::take(&mut class_names);
    }
    raw.pixels = Pixels::F32(pixels);
    raw.guess.nhwc = [n, transform.size[0], transform.size[1], 1];
    Ok(raw)
}

fn kind(complex: bool) -> &'static str {
    if complex { "complex signal" } else { "real signal" }
}

/// Appends the columns of a file to those of the files before, which had `n` images.
fn merge(all: &mut Vec<(String, Vec<i64>)>, new: Vec<(String, Vec<i64>)>, n: usize) {
    if n == 0 {
        *all = new;
        return;
    }
    all.retain_mut(|(name, values)| match new.iter().find(|(other, _)| other == name) {
        Some((_, more)) => {
            values.extend(more);
            true
        }
        None => false,
    });
}

/// Files of recordings below a folder, and the names of its class folders.
fn sources(root: &Path) -> Result<(Vec<Source>, Vec<String>)> {
    let list = |folder: &Path| -> Result<Vec<PathBuf>> {
        let bad =
            |e: std::io::Error| Error::data("the folder cannot be listed").at_path(folder).why(e);
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(bad)? {
            paths.push(entry.map_err(bad)?.path());
        }
        paths.sort();
        Ok(paths)
    };
    let readable = |path: &PathBuf| {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        path.is_file() && EXTENSIONS.iter().any(|e| e.eq_ignore_ascii_case(extension))
    };
    let (mut found, mut names) = (Vec::new(), Vec::new());
    let top = list(root)?;
    for folder in top.iter().filter(|p| p.is_dir()) {
        let inside: Vec<PathBuf> = list(folder)?.into_iter().filter(readable).collect();
        if !inside.is_empty() {
            let class = Some(names.len());
            names.push(folder.file_name().unwrap_or_default().to_string_lossy().into_owned());
            found.extend(inside.into_iter().map(|path| Source { path, class }));
        }
    }
    if found.is_empty() {
        let loose = top.into_iter().filter(readable);
        found.extend(loose.map(|path| Source { path, class: None }));
    }
    Ok((found, names))
}
