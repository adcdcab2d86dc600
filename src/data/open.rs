//! Opening files and folders: what they are, and which arrays become images and labels.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::arrays::{Array, Named, Values};
use super::layout::{CountedAxis, Guess, counted_axis, guess};
use super::npz::Raw;
use super::signal::load as signals;
use super::{
    Dataset, LabelChoice, Member, Pixels, Provenance, Scale, Transform, arrays, folder, labels,
    npz, split,
};
use crate::error::{Error, Result};

impl Dataset {
    /// Reads a file or folder without touching the values, which are finite but may be in any unit.
    pub fn load(path: impl AsRef<Path>, labels: &LabelChoice) -> Result<Dataset> {
        Self::load_with(path, labels, None)
    }

    /// As [`load`](Self::load); with a transform, radar signals are made into images.
    ///
    /// A folder of pictures and a file of ready images (of rank 3 or more and of bytes, or written by a
    /// conversion) are taken as they are even then.
    pub fn load_with(
        path: impl AsRef<Path>,
        labels: &LabelChoice,
        signal: Option<&Transform>,
    ) -> Result<Dataset> {
        let path = path.as_ref();
        let meta = std::fs::metadata(path).map_err(|e| {
            Error::data("the data cannot be opened")
                .at_path(path)
                .why(e)
                .help("give an .npz, .npy or .mat file, or a folder of PNG images")
        })?;
        let data = match signal {
            Some(transform) if holds_signals(path)? => {
                Self::from_signals(path, labels, transform, None)
            }
            _ if meta.is_dir() => Self::from_folder(path, labels),
            _ => match sniff(path)? {
                Kind::Npz => Self::from_raw(npz::read_npz(path)?, path, labels),
                Kind::Npy => Self::from_raw(npz::read_npy(path)?, path, labels),
                Kind::Mat => Self::from_raw(mat_images(path)?, path, labels),
            },
        }?;
        data.check_finite()?;
        Ok(data)
    }

    /// Images of the recordings in a file or folder; `array` names the variable that holds them.
    pub fn from_signals(
        path: &Path,
        labels: &LabelChoice,
        transform: &Transform,
        array: Option<&str>,
    ) -> Result<Dataset> {
        let raw = signals::load(path, transform, array)?;
        let recordings = raw.arrays.iter().find(|(name, _)| name == signals::RECORDING);
        let count = recordings.and_then(|(_, v)| v.last()).map_or(0, |last| last + 1);
        let mut data = Self::from_raw(raw, path, labels)?;
        data.notes[0] = format!("made from {count} recordings: {:?}", transform.input);
        data.signal = Some(transform.clone());
        Ok(data)
    }

    fn from_raw(raw: npz::Raw, path: &Path, choice: &LabelChoice) -> Result<Dataset> {
        let [n, height, width, channels] = raw.guess.nhwc;
        let mut arrays = raw.arrays;
        let mut data = Dataset {
            pixels: raw.pixels,
            n,
            height,
            width,
            channels,
            labels: None,
            class_names: Vec::new(),
            arrays: BTreeMap::new(),
            source: path.display().to_string(),
            dtype: raw.dtype,
            scale: Scale::None,
            signal: None,
            members: raw.members,
            notes: vec![format!("the image array is read as {}", raw.guess.layout)],
            warnings: raw.warnings,
        };
        if let Some(found) = labels::choose(&mut arrays, choice, raw.class_names.len())
            .map_err(|e| e.at_path(path))?
        {
            data.notes.push(format!("labels come from '{}'", found.array));
            for member in data.members.iter_mut().filter(|m| m.name == found.array) {
                member.role = "labels".into();
            }
            if !found.renamed.is_empty() {
                data.notes.push("the label values were numbered in sorted order".into());
            }
            if found.from_one {
                data.notes.push("the labels count from 1: 1 is the first class name".into());
            }
            data.labels = Some(found.labels);
            data.class_names = raw.class_names;
            if data.class_names.is_empty() {
                data.class_names = found.renamed;
            } else if data.classes() > data.class_names.len() {
                let (classes, names) = (data.classes(), data.class_names.len());
                data.warnings.push(format!("{classes} classes but {names} class names"));
            }
        }
        data.arrays = arrays.into_iter().collect();
        if let Some(text) = &raw.provenance {
            match Provenance::parse(text) {
                Ok(provenance) => {
                    data.signal = provenance.signal;
                    data.scale = provenance.scale;
                }
                Err(why) => data.warnings.push(format!("'provenance' was skipped: {why}")),
            }
        }
        Ok(data)
    }

    fn from_folder(path: &Path, choice: &LabelChoice) -> Result<Dataset> {
        let folder = folder::read_folder(path)?;
        let mut arrays = BTreeMap::new();
        if let Some(split) = folder.split {
            arrays.insert(split::FOLDER_ARRAY.to_string(), split);
        }
        let (labels, class_names) = match choice {
            LabelChoice::Auto => (folder.labels, folder.class_names),
            LabelChoice::None => (None, Vec::new()),
            LabelChoice::Named(name) => {
                return Err(Error::data(format!("an image folder has no array '{name}'"))
                    .at("data.labels")
                    .why("the labels of a folder are the names of its class folders")
                    .help("use data.labels = \"auto\""));
            }
        };
        Ok(Dataset {
            pixels: folder.pixels,
            n: folder.n,
            height: folder.format.height,
            width: folder.format.width,
            channels: folder.format.channels,
            labels,
            class_names,
            arrays,
            source: path.display().to_string(),
            dtype: format!("png {}", folder.format),
            scale: Scale::None,
            signal: None,
            members: Vec::new(),
            notes: Vec::new(),
            warnings: folder.warnings,
        })
    }
}

/// Whether a path is to be read as signals. Of archives only the headers are read; what cannot be read
/// is told by who reads it.
fn holds_signals(path: &Path) -> Result<bool> {
    if path.is_dir() {
        return signals::is_folder_of_recordings(path);
    }
    Ok(match sniff(path)? {
        Kind::Npz => !npz::holds_finished(path).unwrap_or(false),
        Kind::Npy => !npz::is_finished(&npz::npy_header(path)?.0),
        Kind::Mat => {
            let (named, _) = super::mat::read(path)?;
            let bytes = |array: Array| matches!(array.values, Values::U8(_));
            !named.iter().find_map(stacked).is_some_and(bytes)
        }
    })
}

/// Kinds of files that hold arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Npz,
    Npy,
    Mat,
}

/// What a file is, by its first bytes: names lie.
pub fn sniff(path: &Path) -> Result<Kind> {
    let bad = |why: String| Error::data("the file is not a data set").at_path(path).why(why);
    let mut magic = Vec::new();
    let file = File::open(path).map_err(|e| bad(e.to_string()))?;
    file.take(8).read_to_end(&mut magic).map_err(|e| bad(e.to_string()))?;
    if magic.starts_with(b"PK") {
        Ok(Kind::Npz)
    } else if magic.starts_with(b"\x93NUMPY") {
        Ok(Kind::Npy)
    } else if magic.starts_with(b"\x89PNG") {
        Err(bad("it is a single PNG image".into()).help("give the folder that holds the images"))
    } else if magic.starts_with(b"MATLAB") {
        Ok(Kind::Mat)
    } else if magic.starts_with(b"\x89HDF") {
        Err(bad("HDF5 files are not read".into())
            .help("convert once in Python: np.savez_compressed(\"data.npz\", images=x, labels=y)"))
    } else {
        Err(bad("neither .npz, .npy nor .mat by its first bytes".into())
            .help("give an .npz, .npy or .mat file, or a folder of PNG images"))
    }
}

/// The images of a MATLAB file: its first real array of rank 3 or more, or a cell of matrices of one
/// size. Which axis counts the images: [`counted_axis`].
fn mat_images(path: &Path) -> Result<Raw> {
    let (named, warnings) = super::mat::read(path)?;
    let listing: Vec<String> = named
        .iter()
        .map(|n| n.node.describe())
        .zip(&named)
        .map(|((dtype, shape), n)| format!("{} {dtype} {shape:?}", n.name))
        .collect();
    let bad = |why: String| {
        Error::data("the MATLAB file has no image array")
            .at_path(path)
            .why(format!("{why}; arrays found: [{}]", listing.join("; ")))
            .help(
                "signals and complex matrices become images with [data.signal] preset = \"...\" \
                 or `vqforge data convert IN --preset NAME`",
            )
    };
    let vectors: Vec<(String, Vec<i64>)> = named
        .iter()
        .filter_map(|n| match &n.node {
            arrays::Node::Array(a) => a.ints().map(|v| (n.name.clone(), v)),
            _ => None,
        })
        .collect();
    let (at, array) = named
        .iter()
        .enumerate()
        .find_map(|(i, n)| stacked(n).map(|a| (i, a)))
        .ok_or_else(|| bad("no real array has 3 axes or more".into()))?;
    let lengths: Vec<usize> = vectors.iter().map(|(_, v)| v.len()).collect();
    // The matrices of a cell lie one after the other.
    let axis = match &named[at].node {
        arrays::Node::List(_) => CountedAxis { first: true, sure: true },
        _ => counted_axis(&array.shape, &lengths),
    };
    let array = if axis.first { array } else { array.last_axis_first() };
    let guess: Guess = match array.shape.len() {
        3 => guess(&array.shape).map_err(&bad)?,
        _ => Guess { doubt: None, ..guess(&array.shape).map_err(&bad)? },
    };
    let mut warnings = warnings;
    if !axis.sure {
        let [n, h, w, _] = guess.nhwc;
        warnings.push(format!("{} is read as {n} images of {h} x {w}", listing[at]));
    }
    let n = guess.nhwc[0];
    let pixels = match array.values {
        Values::U8(v) => Pixels::U8(super::layout::to_nhwc(v, &guess, false)),
        Values::F32(v) => Pixels::F32(super::layout::to_nhwc(v, &guess, false)),
        _ => return Err(bad("the images are not real numbers".into())),
    };
    let class_names = named
        .iter()
        .find(|x| npz::CLASS_NAMES.contains(&x.name.to_lowercase().as_str()))
        .map(|x| x.node.texts().into_iter().map(str::to_string).collect())
        .unwrap_or_default();
    let member = |(i, x): (usize, &Named)| {
        let (dtype, shape) = x.node.describe();
        let integers = matches!(&x.node, arrays::Node::Array(a)
            if a.ints().is_some_and(|v| v.len() == n));
        let role = match (i == at, integers) {
            (true, _) => "images",
            (_, true) => "one integer per image",
            _ => "not used",
        };
        Member { name: x.name.clone(), dtype, shape, role: role.into() }
    };
    Ok(Raw {
        pixels,
        guess,
        dtype: array.dtype,
        arrays: vectors.into_iter().filter(|(_, v)| v.len() == n).collect(),
        class_names,
        members: named.iter().enumerate().map(member).collect(),
        warnings,
        provenance: None,
    })
}

/// A real array of rank 3 or 4, or the matrices of a cell one after the other.
fn stacked(named: &Named) -> Option<Array> {
    match &named.node {
        arrays::Node::Array(a) if !a.is_complex() && a.shape.len() >= 3 => Some(a.clone()),
        arrays::Node::List(_) => {
            let all = named.node.arrays();
            let first = *all.first()?;
            let alike = |a: &&Array| a.shape == first.shape && first.shape.iter().all(|&d| d > 1);
            if first.is_complex() || !all.iter().all(alike) {
                return None;
            }
            let mut values = Vec::with_capacity(all.len() * first.values.len());
            all.iter().for_each(|a| values.extend(a.complex().iter().map(|z| z.re)));
            let shape = [&[all.len()], &first.shape[..]].concat();
            Some(Array { dtype: first.dtype.clone(), shape, values: Values::F32(values) })
        }
        _ => None,
    }
}
