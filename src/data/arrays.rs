//! Named arrays of any file that is read: what images and signals are picked from.

use std::path::Path;

use npyz::TypeChar;
use rustfft::num_complex::Complex;

use super::header::{Checked, Header};
use super::permute::{from_fortran, permute};
use super::{Pixels, npy, npz};
use crate::error::{Error, Result};

/// Numbers of an array.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    U8(Vec<u8>),
    F32(Vec<f32>),
    Ints(Vec<i64>),
    Complex(Vec<Complex<f32>>),
}

/// An array in C order: the last axis varies fastest.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Name of the element type in the file.
    pub dtype: String,
    pub shape: Vec<usize>,
    pub values: Values,
}

/// An array, a text, or a list of such: a MATLAB cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    Array(Array),
    Text(String),
    List(Vec<Node>),
}

/// A variable of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    pub name: String,
    pub node: Node,
}

impl Values {
    pub fn len(&self) -> usize {
        match self {
            Values::U8(v) => v.len(),
            Values::F32(v) => v.len(),
            Values::Ints(v) => v.len(),
            Values::Complex(v) => v.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// From Fortran order, the first axis fastest.
    pub fn in_c_order(self, shape: &[usize]) -> Values {
        let (shape, order) = from_fortran(shape);
        self.permuted(&shape, &order)
    }

    /// Axis `order[i]` of `shape` as axis i.
    pub fn permuted(self, shape: &[usize], order: &[usize]) -> Values {
        match self {
            Values::U8(v) => Values::U8(permute(v, shape, order)),
            Values::F32(v) => Values::F32(permute(v, shape, order)),
            Values::Ints(v) => Values::Ints(permute(v, shape, order)),
            Values::Complex(v) => Values::Complex(permute(v, shape, order)),
        }
    }
}

impl Array {
    /// The last axis as the first.
    pub fn last_axis_first(self) -> Array {
        let rank = self.shape.len();
        let order: Vec<usize> = (0..rank).map(|axis| (axis + rank - 1) % rank).collect();
        let values = self.values.permuted(&self.shape, &order);
        let shape = order.iter().map(|&axis| self.shape[axis]).collect();
        Array { dtype: self.dtype, shape, values }
    }

    pub fn is_complex(&self) -> bool {
        matches!(self.values, Values::Complex(_))
    }

    /// One integer per entry, for a vector (one axis longer than 1) of whole numbers.
    pub fn ints(&self) -> Option<Vec<i64>> {
        if self.shape.iter().filter(|&&d| d != 1).count() > 1 {
            return None;
        }
        match &self.values {
            Values::Ints(v) => Some(v.clone()),
            Values::U8(v) => Some(v.iter().map(|&v| i64::from(v)).collect()),
            Values::F32(_) | Values::Complex(_) => None,
        }
    }

    /// Complex numbers: as they are, or real ones without an imaginary part.
    pub fn complex(&self) -> Vec<Complex<f32>> {
        let real = |re: f32| Complex::new(re, 0.0);
        match &self.values {
            Values::Complex(v) => v.clone(),
            Values::F32(v) => v.iter().map(|&v| real(v)).collect(),
            Values::U8(v) => v.iter().map(|&v| real(f32::from(v))).collect(),
            Values::Ints(v) => v.iter().map(|&v| real(v as f32)).collect(),
        }
    }
}

impl Node {
    /// All arrays below, in order.
    pub fn arrays(&self) -> Vec<&Array> {
        match self {
            Node::Array(array) => vec![array],
            Node::Text(_) => Vec::new(),
            Node::List(nodes) => nodes.iter().flat_map(Node::arrays).collect(),
        }
    }

    /// Strings of a list, or of one text.
    pub fn texts(&self) -> Vec<&str> {
        match self {
            Node::Array(_) => Vec::new(),
            Node::Text(text) => vec![text],
            Node::List(nodes) => nodes.iter().flat_map(Node::texts).collect(),
        }
    }

    /// `complex double [3, 4]` or `cell of 5, complex double`.
    pub fn describe(&self) -> (String, Vec<usize>) {
        match self {
            Node::Array(array) => (array.dtype.clone(), array.shape.clone()),
            Node::Text(text) => ("text".into(), vec![text.chars().count()]),
            Node::List(nodes) => {
                let inner = self.arrays().first().map_or("text", |a| &a.dtype).to_string();
                (format!("cell of {inner}"), vec![nodes.len()])
            }
        }
    }
}

/// All arrays of an `.npy`, `.npz` or `.mat` file; and what was skipped, in words.
///
/// # Errors
/// Exit code 4: another kind of file, or a damaged one.
pub fn read_file(path: &Path) -> Result<(Vec<Named>, Vec<String>)> {
    match super::open::sniff(path)? {
        super::open::Kind::Mat => super::mat::read(path),
        super::open::Kind::Npz => npz::read_arrays(path),
        super::open::Kind::Npy => {
            let bad = |why: String| Error::data("the array cannot be read").at_path(path).why(why);
            let (header, reader) = npz::npy_header(path)?;
            let node = read_npy_array(&header, reader).map_err(bad)?;
            Ok((vec![Named { name: "array".into(), node }], Vec::new()))
        }
    }
}

/// The data of a `.npy` array behind its checked header.
pub fn read_npy_array(header: &Header, reader: impl std::io::Read) -> Checked<Node> {
    let values = match header.dtype.type_char() {
        TypeChar::Complex => Values::Complex(npy::read_complex(header, reader)?),
        TypeChar::UnicodeStr | TypeChar::ByteStr => {
            let texts = npy::read_strings(header, reader)?;
            return Ok(Node::List(texts.into_iter().map(Node::Text).collect()));
        }
        TypeChar::Int | TypeChar::Uint if header.shape.len() == 1 => {
            Values::Ints(npy::read_ints(header, reader)?)
        }
        _ => match npy::read_pixels(header, reader)? {
            Pixels::U8(v) => Values::U8(v),
            Pixels::F32(v) => Values::F32(v),
        },
    };
    let values = if header.fortran() { values.in_c_order(&header.shape) } else { values };
    Ok(Node::Array(Array { dtype: header.dtype_name(), shape: header.shape.clone(), values }))
}
