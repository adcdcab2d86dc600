//! One variable: an array of numbers, text, cells or a struct.

use rustfft::num_complex::Complex;

use super::MATRIX;
use super::bytes::{Cursor, Tag, numbers, width};
use crate::data::arrays::{Array, Named, Node, Values};
use crate::data::header::Checked;
use crate::data::permute::{from_fortran, permute};

const CELL: u32 = 1;
const STRUCT: u32 = 2;
const CHAR: u32 = 4;
const UINT8: u32 = 9;
const COMPLEX_FLAG: u32 = 0x800;
const LOGICAL_FLAG: u32 = 0x200;
const MAX_RANK: usize = 8;
pub const MAX_DEPTH: usize = 12;
const MAX_FIELDS: usize = 1000;

/// Adds a variable under its name, or says why it was skipped.
pub fn variable(
    body: &[u8],
    big: bool,
    found: &mut Vec<Named>,
    skipped: &mut Vec<String>,
) -> Checked<()> {
    let (name, parsed) = matrix(body, big, 0)?;
    parsed.put(name, found, skipped);
    Ok(())
}

pub enum Parsed {
    Node(Node),
    Fields(Vec<(String, Node)>),
    Other(String),
}

impl Parsed {
    /// Adds a variable: a struct as one for each of its fields.
    pub fn put(self, name: String, found: &mut Vec<Named>, skipped: &mut Vec<String>) {
        match self {
            Parsed::Node(node) => found.push(Named { name, node }),
            Parsed::Fields(fields) => {
                let member = |(field, node)| Named { name: format!("{name}.{field}"), node };
                found.extend(fields.into_iter().map(member));
            }
            Parsed::Other(why) => skipped.push(format!("'{name}' was skipped: {why}")),
        }
    }

    /// Inside a cell: a struct becomes the list of its fields.
    pub fn node(self) -> Node {
        match self {
            Parsed::Node(node) => node,
            Parsed::Fields(fields) => Node::List(fields.into_iter().map(|(_, n)| n).collect()),
            Parsed::Other(_) => Node::List(Vec::new()),
        }
    }
}

fn matrix(body: &[u8], big: bool, depth: usize) -> Checked<(String, Parsed)> {
    if depth > MAX_DEPTH {
        return Err(format!("cells or structs are nested deeper than {MAX_DEPTH}"));
    }
    let mut cursor = Cursor::new(body, big);
    if cursor.is_empty() {
        // An empty cell entry is written with no content at all.
        return Ok((String::new(), Parsed::Node(Node::List(Vec::new()))));
    }
    let flags = numbers(&cursor.element()?, big)?.next().ok_or("an array without flags")? as u32;
    let class = flags & 0xff;
    if class == 17 {
        return Ok(("object".into(), Parsed::Other("objects are not read".into())));
    }
    let shape = dimensions(&cursor.element()?, big)?;
    let len = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let len = len.ok_or_else(|| format!("the shape {shape:?} overflows"))?;
    let name = String::from_utf8_lossy(cursor.element()?.body).into_owned();
    let parsed = match class {
        CELL => {
            Parsed::Node(Node::List(in_c_order(children(&mut cursor, len, big, depth)?, &shape)))
        }
        STRUCT => structure(&mut cursor, &shape, len, big, depth)?,
        CHAR => {
            let text = characters(&cursor.element()?, big)?;
            Parsed::Node(rows_of_text(text, &shape)?)
        }
        6..=15 => Parsed::Node(Node::Array(array(&mut cursor, flags, shape, len, big)?)),
        5 => Parsed::Other("sparse arrays are not read".into()),
        _ => Parsed::Other(format!("arrays of class {class} are not read")),
    };
    Ok((name, parsed))
}

fn dimensions(tag: &Tag<'_>, big: bool) -> Checked<Vec<usize>> {
    let dims: Vec<f64> = numbers(tag, big)?.take(MAX_RANK + 1).collect();
    if dims.is_empty() || dims.len() > MAX_RANK || dims.iter().any(|&d| d < 0.0) {
        return Err(format!("dimensions {dims:?}"));
    }
    Ok(dims.into_iter().map(|d| d as usize).collect())
}

/// `count` arrays, one after the other: each takes at least the 8 bytes of its tag.
fn children(cursor: &mut Cursor<'_>, count: usize, big: bool, depth: usize) -> Checked<Vec<Node>> {
    if count > cursor.len() / 8 {
        return Err(format!("{count} entries are announced in {} bytes", cursor.len()));
    }
    let mut nodes = Vec::with_capacity(count);
    for _ in 0..count {
        let Tag { kind, body } = cursor.element()?;
        if kind != MATRIX {
            return Err(format!("an entry of kind {kind} where an array belongs"));
        }
        nodes.push(matrix(body, big, depth + 1)?.1.node());
    }
    Ok(nodes)
}

/// Entries of a cell array, stored with the first index fastest, with the last one fastest.
pub fn in_c_order(nodes: Vec<Node>, shape: &[usize]) -> Vec<Node> {
    let (sizes, axes) = from_fortran(shape);
    let order = permute((0..nodes.len()).collect(), &sizes, &axes);
    let mut slots: Vec<Option<Node>> = nodes.into_iter().map(Some).collect();
    order.into_iter().filter_map(|i| slots[i].take()).collect()
}

/// A struct: its fields; an array of structs: for each field the list of its values.
fn structure(
    cursor: &mut Cursor<'_>,
    shape: &[usize],
    len: usize,
    big: bool,
    depth: usize,
) -> Checked<Parsed> {
    let size = numbers(&cursor.element()?, big)?.next().unwrap_or(0.0) as usize;
    let text = cursor.element()?.body;
    if size == 0 || text.len() / size > MAX_FIELDS {
        return Err(format!("field names of {size} bytes in {}", text.len()));
    }
    let names: Vec<String> = text
        .chunks_exact(size)
        .map(|c| c.split(|&b| b == 0).next().unwrap_or_default())
        .map(|c| String::from_utf8_lossy(c).into_owned())
        .collect();
    let count = names.len().checked_mul(len).ok_or("too many struct entries")?;
    let nodes = children(cursor, count, big, depth)?;
    let mut columns: Vec<Vec<Node>> = names.iter().map(|_| Vec::with_capacity(len)).collect();
    for (i, node) in nodes.into_iter().enumerate() {
        columns[i % names.len()].push(node);
    }
    let one = |mut column: Vec<Node>| match (column.len(), column.pop()) {
        (1, Some(node)) => node,
        (_, last) => {
            column.extend(last);
            Node::List(in_c_order(column, shape))
        }
    };
    Ok(Parsed::Fields(names.into_iter().zip(columns.into_iter().map(one)).collect()))
}

fn characters(tag: &Tag<'_>, big: bool) -> Checked<Vec<char>> {
    if tag.kind == 16 {
        return Ok(String::from_utf8_lossy(tag.body).chars().collect());
    }
    let code = |v: f64| char::from_u32(v as u32).unwrap_or(char::REPLACEMENT_CHARACTER);
    Ok(numbers(tag, big)?.map(code).collect())
}

/// A text, or of a matrix of characters its rows: names of one length, filled up with spaces.
pub fn rows_of_text(text: Vec<char>, shape: &[usize]) -> Checked<Node> {
    let width = shape.last().copied().unwrap_or(0).max(1);
    if shape.iter().product::<usize>() <= width {
        return Ok(Node::Text(text.into_iter().collect()));
    }
    if text.len() != shape.iter().product::<usize>() {
        return Err(format!("{} characters for text of shape {shape:?}", text.len()));
    }
    let (sizes, axes) = from_fortran(shape);
    let row = |row: &[char]| Node::Text(row.iter().collect::<String>().trim_end().into());
    Ok(Node::List(permute(text, &sizes, &axes).chunks(width).map(row).collect()))
}

/// Numbers: stored in any type that holds them, whatever the class of the array.
fn array(
    cursor: &mut Cursor<'_>,
    flags: u32,
    shape: Vec<usize>,
    len: usize,
    big: bool,
) -> Checked<Array> {
    let class = flags & 0xff;
    let mut part = || -> Checked<Tag<'_>> {
        let tag = cursor.element()?;
        let has = tag.body.len().checked_div(width(tag.kind)).unwrap_or(0);
        if has != len {
            return Err(format!("shape {shape:?} needs {len} numbers, there are {has}"));
        }
        Ok(tag)
    };
    let re = part()?;
    let im = if flags & COMPLEX_FLAG != 0 { Some(part()?) } else { None };
    let logical = flags & LOGICAL_FLAG != 0;
    numeric(Class { number: class, logical }, shape, [Some(re), im], big)
}

/// What MATLAB calls the elements of an array.
#[derive(Debug, Clone, Copy)]
pub struct Class {
    /// 6 to 15, in the order of [`CLASSES`].
    pub number: u32,
    pub logical: bool,
}

/// Names of the classes of numbers, from number 6 on.
pub const CLASSES: [&str; 10] =
    ["double", "single", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"];

/// An array of its real and imaginary parts, the first axis fastest.
pub fn numeric(
    class: Class,
    shape: Vec<usize>,
    parts: [Option<Tag<'_>>; 2],
    big: bool,
) -> Checked<Array> {
    let [Some(re), im] = parts else { return Err("an array without numbers".into()) };
    let integral = (8..=15).contains(&class.number);
    let vector = shape.iter().filter(|&&d| d != 1).count() <= 1;
    let complex = im.is_some();
    let values = if let Some(im) = im {
        let pair = |(re, im)| Complex::new(re as f32, im as f32);
        Values::Complex(numbers(&re, big)?.zip(numbers(&im, big)?).map(pair).collect())
    } else if class.number == UINT8 && !vector && re.kind == 2 && !class.logical {
        Values::U8(re.body.to_vec())
    } else if vector && (integral || numbers(&re, big)?.all(|v| v == v.trunc() && v.abs() < 2e9)) {
        Values::Ints(numbers(&re, big)?.map(|v| v as i64).collect())
    } else {
        Values::F32(numbers(&re, big)?.map(|v| v as f32).collect())
    };
    let name = CLASSES.get((class.number as usize).wrapping_sub(6)).unwrap_or(&"uint64");
    let kind = if complex { "complex " } else { "" };
    Ok(Array { dtype: format!("{kind}{name}"), values: values.in_c_order(&shape), shape })
}
