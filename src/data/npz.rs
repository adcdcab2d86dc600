//! `.npy` files and `.npz` archives: which member is what.
//!
//! The headers of all members are read first; then only what is used is decompressed. Nothing is
//! ever extracted to disk, so names inside the archive cannot point anywhere.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use npyz::TypeChar;
use zip::ZipArchive;

use super::arrays::{Named, read_npy_array};
use super::header::{Budget, Checked, Header, read_header};
use super::layout::{Guess, guess, to_nhwc};
use super::{Pixels, npy};
use crate::error::{Error, Result};

/// Archives with more members than this are not data sets.
const MAX_MEMBERS: usize = 1000;
/// Integer arrays kept beside the images.
const MAX_ARRAYS: usize = 64;
/// Names under which a string array holds the class names.
pub(super) const CLASS_NAMES: [&str; 4] = ["class_names", "classes", "label_names", "target_names"];

/// One array found in the source, for `data info`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Member {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<usize>,
    /// What it is used for, or why it is not.
    pub role: String,
}

/// What a file holds, before labels are chosen and values are normalised.
pub struct Raw {
    /// NHWC.
    pub pixels: Pixels,
    pub guess: Guess,
    pub dtype: String,
    /// Integer arrays with one entry per image, in file order.
    pub arrays: Vec<(String, Vec<i64>)>,
    pub class_names: Vec<String>,
    pub members: Vec<Member>,
    pub warnings: Vec<String>,
    /// How the images were made, as JSON: what a conversion left in the file.
    pub provenance: Option<String>,
}

/// The text array that holds [`Raw::provenance`].
pub const PROVENANCE: &str = "provenance";

/// The header of a single array, and a reader that stands behind it.
pub fn npy_header(path: &Path) -> Result<(Header, BufReader<File>)> {
    let bad = |why: String| Error::data("the array cannot be read").at_path(path).why(why);
    let file = open(path)?;
    let total = file.metadata().map_err(|e| bad(e.to_string()))?.len();
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let header = read_header(&mut reader, total).map_err(bad)?;
    Ok((header, reader))
}

/// Whether an array is one of ready images: bytes or booleans, of rank 3 or more.
pub fn is_finished(header: &Header) -> bool {
    let bytes = header.dtype.num_bytes() == Some(1);
    let unsigned = matches!(header.dtype.type_char(), TypeChar::Uint | TypeChar::Bool);
    bytes && unsigned && header.shape.len() >= 3
}

/// Whether the images of an archive are ready, by its headers alone.
pub fn holds_finished(path: &Path) -> Result<bool> {
    let (mut zip, mut budget) = open_zip(path)?;
    let mut images = None;
    for index in 0..zip.len() {
        let (name, header) = read_member_header(&mut zip, index, &mut budget);
        let Ok(header) = header else { continue };
        if !header.is_numeric() && name == PROVENANCE {
            return Ok(true);
        }
        if header.is_numeric() && header.shape.len() >= 3 {
            images.get_or_insert(is_finished(&header));
        }
    }
    Ok(images.unwrap_or(false))
}

/// Reads a single array.
pub fn read_npy(path: &Path) -> Result<Raw> {
    let bad = |why: String| {
        Error::data("the array cannot be read as images").at_path(path).why(why).help(HELP_IMAGES)
    };
    let (header, reader) = npy_header(path)?;
    let guess = guess(&header.shape).map_err(bad)?;
    let pixels = read_images(&header, &guess, reader).map_err(bad)?;
    let member = Member {
        name: "images".into(),
        dtype: header.dtype_name(),
        shape: header.shape.clone(),
        role: "images".into(),
    };
    Ok(Raw {
        pixels,
        dtype: header.dtype_name(),
        warnings: guess.doubt.iter().cloned().collect(),
        guess,
        arrays: Vec::new(),
        class_names: Vec::new(),
        members: vec![member],
        provenance: None,
    })
}

/// Reads an archive of arrays: the first numeric one of rank 3 or more holds the images, the
/// one-dimensional integer arrays of the same length go with them.
pub fn read_npz(path: &Path) -> Result<Raw> {
    let (mut zip, mut budget) = open_zip(path)?;
    let mut warnings = Vec::new();
    let mut members = Vec::new();
    let mut found: Vec<(usize, Header)> = Vec::new();
    for index in 0..zip.len() {
        let (name, header) = read_member_header(&mut zip, index, &mut budget);
        match header {
            Ok(header) => {
                members.push(Member {
                    name,
                    dtype: header.dtype_name(),
                    shape: header.shape.clone(),
                    role: "not used".into(),
                });
                found.push((index, header));
            }
            Err(why) => warnings.push(format!("'{name}' was skipped: {why}")),
        }
    }

    let Some(at) = found.iter().position(|(_, h)| h.is_numeric() && h.shape.len() >= 3) else {
        let arrays: Vec<String> =
            members.iter().map(|m| format!("{} {} {:?}", m.name, m.dtype, m.shape)).collect();
        let mut why = format!("arrays found: [{}]", arrays.join("; "));
        for warning in &warnings {
            why += &format!("; {warning}");
        }
        return Err(Error::data("the archive has no image array")
            .at_path(path)
            .why(why)
            .help(HELP_IMAGES));
    };
    let (index, header) = &found[at];
    let in_images = |why: String| {
        Error::data(format!("the image array '{}' cannot be read", members[at].name))
            .at_path(path)
            .why(why)
            .help(HELP_IMAGES)
    };
    let guess = guess(&header.shape).map_err(in_images)?;
    warnings.extend(guess.doubt.clone());
    let member = zip.by_index(*index).map_err(|e| in_images(e.to_string()))?;
    let pixels = skip_header(member).and_then(|r| read_images(header, &guess, r));
    let pixels = pixels.map_err(in_images)?;
    let dtype = header.dtype_name();
    members[at].role = "images".into();

    let n = guess.nhwc[0];
    let mut arrays: Vec<(String, Vec<i64>)> = Vec::new();
    let mut class_names = Vec::new();
    let mut provenance = None;
    for (i, (index, header)) in found.iter().enumerate() {
        let name = members[i].name.clone();
        let per_image = header.is_integer() && header.shape == [n] && arrays.len() < MAX_ARRAYS;
        let told = !header.is_numeric() && name == PROVENANCE;
        let names = !header.is_numeric() && CLASS_NAMES.contains(&name.to_lowercase().as_str());
        if i == at || !(per_image || names || told) {
            if !header.is_numeric() {
                let why = format!("elements of type {} are not read", header.dtype);
                warnings.push(format!("'{name}' was skipped: {why}"));
            }
            continue;
        }
        let reader = zip.by_index(*index).map_err(|e| e.to_string()).and_then(skip_header);
        let result = if per_image {
            reader.and_then(|r| npy::read_ints(header, r)).map(|ints| {
                arrays.push((name.clone(), ints));
                "one integer per image"
            })
        } else if told {
            reader.and_then(|r| npy::read_strings(header, r)).map(|mut texts| {
                provenance = texts.pop();
                "how the images were made"
            })
        } else {
            reader.and_then(|r| npy::read_strings(header, r)).map(|names| {
                class_names = names;
                "class names"
            })
        };
        match result {
            Ok(role) => members[i].role = role.into(),
            Err(why) => warnings.push(format!("'{name}' was skipped: {why}")),
        }
    }
    Ok(Raw { pixels, guess, dtype, arrays, class_names, members, warnings, provenance })
}

/// All members that can be read, in file order; and why others were skipped.
pub fn read_arrays(path: &Path) -> Result<(Vec<Named>, Vec<String>)> {
    read_arrays_where(path, |_| true)
}

/// As [`read_arrays`], of the names that are wanted; others are not even decompressed.
pub fn read_arrays_where(
    path: &Path,
    wanted: impl Fn(&str) -> bool,
) -> Result<(Vec<Named>, Vec<String>)> {
    let (mut zip, mut budget) = open_zip(path)?;
    let (mut found, mut skipped) = (Vec::new(), Vec::new());
    for index in 0..zip.len() {
        let (name, header) = read_member_header(&mut zip, index, &mut budget);
        if !wanted(&name) {
            continue;
        }
        let node = header.and_then(|header| {
            let member = zip.by_index(index).map_err(|e| e.to_string())?;
            read_npy_array(&header, skip_header(member)?)
        });
        match node {
            Ok(node) => found.push(Named { name, node }),
            Err(why) => skipped.push(format!("'{name}' was skipped: {why}")),
        }
    }
    Ok((found, skipped))
}

const HELP_IMAGES: &str = "save the images as one array of shape [n, rows, columns] or \
     [n, rows, columns, channels], for example np.savez_compressed(\"data.npz\", images=x, labels=y)";

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|e| Error::data("the file cannot be opened").at_path(path).why(e))
}

/// An archive, and what its members may expand to.
fn open_zip(path: &Path) -> Result<(ZipArchive<BufReader<File>>, Budget)> {
    let bad = |why: String| Error::data("the archive cannot be read").at_path(path).why(why);
    let file = open(path)?;
    let budget = Budget::of(file.metadata().map_err(|e| bad(e.to_string()))?.len());
    let file = BufReader::with_capacity(1 << 16, file);
    let zip = ZipArchive::new(file).map_err(|e| bad(e.to_string()))?;
    match zip.len() > MAX_MEMBERS {
        true => Err(bad(format!("{} members (at most {MAX_MEMBERS} are accepted)", zip.len()))),
        false => Ok((zip, budget)),
    }
}

fn read_images(header: &Header, guess: &Guess, reader: impl Read) -> Checked<Pixels> {
    Ok(match npy::read_pixels(header, reader)? {
        Pixels::U8(v) => Pixels::U8(to_nhwc(v, guess, header.fortran())),
        Pixels::F32(v) => Pixels::F32(to_nhwc(v, guess, header.fortran())),
    })
}

/// Name of a member without `.npy`, and its checked header.
fn read_member_header<R: Read + std::io::Seek>(
    zip: &mut ZipArchive<R>,
    index: usize,
    budget: &mut Budget,
) -> (String, Checked<Header>) {
    let fallback = || format!("member {index}");
    let mut member = match zip.by_index(index) {
        Ok(member) => member,
        Err(e) => return (fallback(), Err(e.to_string())),
    };
    let file_name = member.name().map_or_else(|_| fallback(), |n| n.into_owned());
    let Some(name) = npyz::npz::array_name_from_file_name(&file_name) else {
        return (file_name, Err("not an npy array".into()));
    };
    let total = member.size();
    let header = budget.spend(total).and_then(|()| read_header(&mut member, total));
    (name.to_string(), header)
}

/// Moves a freshly opened member past its header, which has been read and checked before.
fn skip_header<R: Read>(mut member: R) -> Checked<R> {
    npyz::NpyHeader::from_reader(&mut member).map_err(|e| e.to_string())?;
    Ok(member)
}
