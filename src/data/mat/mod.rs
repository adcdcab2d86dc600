//! MATLAB files: numbers, complex numbers, text, cells and structs. Format 5, which versions 5, 6 and
//! 7 write, is read here; HDF5, which version 7.3 writes, in [`v73`].
//!
//! A file is read as strangers wrote it: every length is checked against the bytes that are there
//! before anything is allocated, compressed variables may not expand beyond reason together, and nesting is
//! bounded. The layout follows the vendor's "MAT-File Format" document.

mod bytes;
mod matrix;
#[cfg(test)]
mod tests;
mod v73;

use std::io::Read;
use std::path::Path;

use super::arrays::Named;
use super::header::{Budget, Checked};
use crate::error::{Error, Result};
use bytes::{Cursor, Tag};

const HEADER: usize = 128;
const COMPRESSED: u32 = 15;
const MATRIX: u32 = 14;
/// Variables at the top of a file.
const MAX_VARIABLES: usize = 1000;

/// The variables of a file, structs flattened to `name.field`; and what was skipped, in words.
///
/// # Errors
/// Exit code 4: not a MATLAB file of version 5 or later, or a damaged one.
pub fn read(path: &Path) -> Result<(Vec<Named>, Vec<String>)> {
    let bad = |why: String| {
        Error::data("the MATLAB file cannot be read")
            .at_path(path)
            .why(why)
            .help("write it again in MATLAB with save(file, names, '-v7'), or as .npz in Python")
    };
    let bytes = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
    parse(&bytes).map_err(bad)
}

/// As [`read`], from memory. Errors are reasons in words.
pub fn parse(file: &[u8]) -> Checked<(Vec<Named>, Vec<String>)> {
    if file.starts_with(b"\x89HDF") || file.get(512..516) == Some(b"\x89HDF") {
        return v73::parse(file).map_err(|why| format!("as HDF5 (version 7.3): {why}"));
    }
    let header = file.get(..HEADER).ok_or("it is too short for a header")?;
    let big = match &header[126..128] {
        b"IM" => false,
        b"MI" => true,
        _ => return Err("it has no mark of format 5 (version 4 is not read)".into()),
    };
    let version = if big { header[124] } else { header[125] };
    if version != 1 {
        return Err(format!("its format is {version}, 1 is expected (2 is HDF5, version 7.3)"));
    }
    let mut cursor = Cursor::new(&file[HEADER..], big);
    let (mut found, mut skipped) = (Vec::new(), Vec::new());
    let mut budget = Budget::of(file.len() as u64);
    for _ in 0..MAX_VARIABLES {
        if cursor.is_empty() {
            return Ok((found, skipped));
        }
        let Tag { kind, body } = cursor.element()?;
        match kind {
            COMPRESSED => {
                let inflated = inflate(body, &mut budget)?;
                let inner = Cursor::new(&inflated, big).element()?;
                if inner.kind != MATRIX {
                    return Err(format!("a variable is of kind {}", inner.kind));
                }
                matrix::variable(inner.body, big, &mut found, &mut skipped)?;
            }
            MATRIX => matrix::variable(body, big, &mut found, &mut skipped)?,
            other => return Err(format!("an element of kind {other} where a variable belongs")),
        }
    }
    Err(format!("more than {MAX_VARIABLES} variables"))
}

fn inflate(body: &[u8], budget: &mut Budget) -> Checked<Vec<u8>> {
    let mut reader = flate2::read::ZlibDecoder::new(body);
    let mut out = Vec::new();
    let mut block = vec![0; 1 << 16];
    loop {
        let got = reader.read(&mut block).map_err(|e| format!("a compressed variable: {e}"))?;
        if got == 0 {
            return Ok(out);
        }
        budget.spend(got as u64)?;
        out.extend_from_slice(&block[..got]);
    }
}
