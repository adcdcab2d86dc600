//! MATLAB files of version 7.3: HDF5 with attributes that say what MATLAB made of a data set.
//!
//! The axes of an array stand in reverse order there, so that the bytes are in MATLAB's own: the first
//! axis fastest. A cell is an array of references into the group `#refs#`, a struct a group of its
//! fields, a complex number a pair called real and imag.

use std::collections::HashMap;

use hdf5_reader::error::ByteOrder;
use hdf5_reader::group::Group;
use hdf5_reader::{Dataset, Datatype, Hdf5File, OpenOptions};

use super::bytes::Tag;
use super::matrix::{CLASSES, Class, MAX_DEPTH, Parsed, in_c_order, numeric, rows_of_text};
use crate::data::arrays::{Named, Node};
use crate::data::header::{Budget, Checked};

/// The group of what cells refer to.
const REFERENCES: &str = "#refs#";
/// Bytes of a reference to an object.
const REFERENCE: usize = 8;
/// One object's description, and one decompressed block: real ones are far smaller.
const MAX_PIECE: usize = 64 << 20;

/// The variables of a file, and what was skipped. Errors are reasons in words.
pub fn parse(file: &[u8]) -> Checked<(Vec<Named>, Vec<String>)> {
    let budget = Budget::of(file.len() as u64);
    let options = OpenOptions::default()
        .with_max_chunk_bytes(MAX_PIECE)
        .with_max_object_header_bytes(MAX_PIECE)
        .with_max_read_bytes(usize::try_from(budget.left()).unwrap_or(usize::MAX));
    let file = Hdf5File::from_vec_with_options(file.to_vec(), options).map_err(words)?;
    let root = file.root_group().map_err(words)?;
    let (groups, datasets) = root.members().map_err(words)?;
    let mut reader = Reader { budget, objects: HashMap::new() };
    for group in groups.iter().filter(|g| plain_name(g.name()) == REFERENCES) {
        let (_, parts) = group.members().map_err(words)?;
        reader.objects.extend(parts.into_iter().map(|part| (part.address(), part)));
    }
    let (mut found, mut skipped) = (Vec::new(), Vec::new());
    for dataset in &datasets {
        let name = plain_name(dataset.name()).to_string();
        match reader.dataset(dataset, 0) {
            Ok(parsed) => parsed.put(name, &mut found, &mut skipped),
            Err(why) => skipped.push(format!("'{name}' was skipped: {why}")),
        }
    }
    for group in groups.iter().filter(|g| !plain_name(g.name()).starts_with('#')) {
        let name = plain_name(group.name()).to_string();
        match reader.fields(group, 0) {
            Ok(parsed) => parsed.put(name, &mut found, &mut skipped),
            Err(why) => skipped.push(format!("'{name}' was skipped: {why}")),
        }
    }
    Ok((found, skipped))
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The last part of a path.
fn plain_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

struct Reader {
    budget: Budget,
    /// What references can point to, by its address.
    objects: HashMap<u64, Dataset>,
}

impl Reader {
    fn fields(&mut self, group: &Group, depth: usize) -> Checked<Parsed> {
        if depth > MAX_DEPTH {
            return Err(format!("cells or structs are nested deeper than {MAX_DEPTH}"));
        }
        let (groups, datasets) = group.members().map_err(words)?;
        let mut fields = Vec::new();
        for dataset in &datasets {
            let name = plain_name(dataset.name()).to_string();
            fields.push((name, self.dataset(dataset, depth + 1)?.node()));
        }
        for group in &groups {
            let name = plain_name(group.name()).to_string();
            fields.push((name, self.fields(group, depth + 1)?.node()));
        }
        Ok(Parsed::Fields(fields))
    }

    fn dataset(&mut self, dataset: &Dataset, depth: usize) -> Checked<Parsed> {
        if depth > MAX_DEPTH {
            return Err(format!("cells or structs are nested deeper than {MAX_DEPTH}"));
        }
        if dataset.attribute("MATLAB_empty").is_ok() {
            return Ok(Parsed::Node(Node::List(Vec::new())));
        }
        let class = dataset.attribute("MATLAB_class").and_then(|a| a.read_string());
        let class = class.map_err(|_| "it has no MATLAB_class".to_string())?;
        let size = |d: &u64| usize::try_from(*d).map_err(|_| format!("an axis of {d}"));
        let shape: Vec<usize> = dataset.shape().iter().rev().map(size).collect::<Checked<_>>()?;
        let bytes = dataset.raw_byte_len().map_err(words)?;
        self.budget.spend(bytes as u64)?;
        let body = dataset.read_raw_bytes().map_err(words)?;
        if class == "cell" {
            return self.cell(&body, &shape, depth);
        }
        let (tags, big) = parts(dataset.dtype(), &body)?;
        let logical = class == "logical";
        let number = match CLASSES.iter().position(|name| *name == class) {
            Some(at) => at as u32 + 6,
            None if logical => 9,
            None if class == "char" => {
                let codes = tags[0].as_slice();
                let code = |v: f64| char::from_u32(v as u32).unwrap_or(char::REPLACEMENT_CHARACTER);
                let text = super::bytes::numbers(&codes, big)?.map(code).collect();
                return Ok(Parsed::Node(rows_of_text(text, &shape)?));
            }
            None => return Ok(Parsed::Other(format!("arrays of class {class} are not read"))),
        };
        let [re, im] = &tags;
        let im = (!im.bytes.is_empty()).then(|| im.as_slice());
        let array = numeric(Class { number, logical }, shape, [Some(re.as_slice()), im], big)?;
        Ok(Parsed::Node(Node::Array(array)))
    }

    fn cell(&mut self, body: &[u8], shape: &[usize], depth: usize) -> Checked<Parsed> {
        let mut nodes = Vec::new();
        for reference in body.as_chunks::<REFERENCE>().0 {
            let address = u64::from_le_bytes(*reference);
            let entry = self.objects.get(&address).cloned();
            let entry = entry.ok_or("an entry of a cell refers to nothing that is read")?;
            nodes.push(self.dataset(&entry, depth + 1)?.node());
        }
        if nodes.len() != shape.iter().product::<usize>() {
            return Err(format!("{} entries in a cell of shape {shape:?}", nodes.len()));
        }
        Ok(Parsed::Node(Node::List(in_c_order(nodes, shape))))
    }
}

/// Numbers of one kind, as in the older format.
struct Part {
    kind: u32,
    bytes: Vec<u8>,
}

impl Part {
    fn as_slice(&self) -> Tag<'_> {
        Tag { kind: self.kind, body: &self.bytes }
    }
}

/// The kind of a plain number, as the older format counts them, its bytes, and whether the first of
/// them is the highest.
fn plain(datatype: &Datatype) -> Checked<(u32, usize, bool)> {
    let (kind, size, order) = match datatype {
        Datatype::FixedPoint { size, signed, byte_order } => {
            let first = match size {
                1 => 1,
                2 => 3,
                4 => 5,
                8 => 12,
                _ => return Err(format!("integers of {size} bytes are not read")),
            };
            (first + u32::from(!signed), usize::from(*size), byte_order)
        }
        Datatype::FloatingPoint { size: 4, byte_order } => (7, 4, byte_order),
        Datatype::FloatingPoint { size: 8, byte_order } => (9, 8, byte_order),
        other => return Err(format!("elements of type {other:?} are not read")),
    };
    Ok((kind, size, *order == ByteOrder::BigEndian))
}

/// Real and imaginary parts, the latter empty where there are none.
fn parts(datatype: &Datatype, body: &[u8]) -> Checked<([Part; 2], bool)> {
    let Datatype::Compound { size, fields } = datatype else {
        let (kind, _, big) = plain(datatype)?;
        let none = Part { kind, bytes: Vec::new() };
        return Ok(([Part { kind, bytes: body.to_vec() }, none], big));
    };
    let size = (*size as usize).max(1);
    let part = |name: &str| -> Checked<(Part, bool)> {
        let field = fields.iter().find(|f| f.name == name);
        let field = field.ok_or_else(|| format!("pairs without a {name} part are not read"))?;
        let (kind, width, big) = plain(&field.datatype)?;
        let at = field.byte_offset as usize;
        let mut bytes = Vec::with_capacity(body.len() / size * width);
        for element in body.chunks_exact(size) {
            let end = at.checked_add(width).ok_or("a field lies beyond its pair")?;
            bytes.extend(element.get(at..end).ok_or("a field lies beyond its pair")?);
        }
        Ok((Part { kind, bytes }, big))
    };
    let ((re, big), (im, other)) = (part("real")?, part("imag")?);
    match big == other {
        true => Ok(([re, im], big)),
        false => Err("the two parts of a number differ in their byte order".into()),
    }
}
