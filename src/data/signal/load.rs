//! Files and folders of recordings into images.

use std::path::Path;

use rayon::prelude::*;

use super::recordings::{Found, pick};
use super::{Chain, Transform};
use crate::data::layout::{Guess, Layout};
use crate::data::listing::{Entry, Listing, Wanted, list};
use crate::data::npz::Raw;
use crate::data::open::{Kind, sniff};
use crate::data::split::FOLDER_ARRAY;
use crate::data::{Pixels, arrays};
use crate::error::{Error, Result};

const RECORDINGS: Wanted = Wanted { endings: &["mat", "npy", "npz"], name: ".mat, .npy or .npz" };
/// The key under which an image remembers its recording, its segment and its file.
pub const RECORDING: &str = "recording";
pub const SEGMENT: &str = "segment";
pub const FILE: &str = "file";

/// Whether a folder holds recordings rather than pictures, in itself or in its class folders.
pub fn is_folder_of_recordings(root: &Path) -> Result<bool> {
    Ok(!list(root, RECORDINGS)?.entries.is_empty())
}

/// Makes images of all recordings of a file, or of the files of a folder as [`list`] finds them: by
/// class, and by part where there are `train` and `test` folders.
///
/// `array` names the variable; else it is found by its numbers. Images carry the integers known
/// per recording and the numbers of their recording, segment and file.
///
/// # Errors
/// Exit code 4: a folder without recordings, what cannot be read as such, and none as long as a segment.
pub fn load(path: &Path, transform: &Transform, array: Option<&str>) -> Result<Raw> {
    let chain = Chain::new(transform);
    let mut listing = match path.is_dir() {
        true => list(path, RECORDINGS)?,
        false => {
            let alone = Entry { path: path.into(), class: None, part: 0 };
            Listing { entries: vec![alone], ..Listing::default() }
        }
    };
    if listing.entries.is_empty() {
        return Err(Error::data("the folder has no recordings")
            .at_path(path)
            .why(listing.warnings.first().map_or("nothing in it ends in .mat, .npy or .npz", |w| w))
            .help("put files of one class into a folder of their own: root/walk/1.mat"));
    }
    let (labels, class_names) = listing.classes();
    let Listing { entries, parts: has_parts, warnings } = listing;
    let mut raw = Raw {
        pixels: Pixels::F32(Vec::new()),
        guess: Guess { layout: Layout::Nhw, nhwc: [0; 4], doubt: None },
        dtype: String::new(),
        arrays: Vec::new(),
        class_names: Vec::new(),
        members: Vec::new(),
        warnings,
        provenance: None,
    };
    let mut pixels: Vec<f32> = Vec::new();
    let (mut n, mut recordings, mut short) = (0usize, 0usize, 0usize);
    let several = entries.len() > 1;
    for (file, source) in entries.iter().enumerate() {
        let bad = |why: String| {
            Error::data("the recordings cannot be read")
                .at_path(&source.path)
                .why(why)
                .help("look at the file with `vqforge data info`; [data.signal] says what it holds")
        };
        let (named, skipped) = arrays::read_file(&source.path)?;
        raw.warnings.extend(skipped);
        let matlab = sniff(&source.path)? == Kind::Mat;
        let Found { recordings: parts, arrays: mut ints, class_names: names, members, warnings } =
            pick(named, array, transform, matlab).map_err(bad)?;
        raw.warnings.extend(warnings);
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
        let mut of_file = |name: &str, value: i64| {
            ints.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
            ints.push((name.into(), vec![value; parts.len()]));
        };
        if let Some(labels) = &labels {
            of_file("labels", i64::from(labels[file]));
        }
        if has_parts {
            of_file(FOLDER_ARRAY, source.part);
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
        raw.class_names = class_names;
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
