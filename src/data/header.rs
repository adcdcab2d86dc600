//! The `.npy` header, checked before any parser or allocator believes it.
//!
//! A header is a Python dictionary written by a stranger. A general literal parser backtracks for
//! minutes over a few dozen nested brackets, and a product of two dimensions can wrap to a small
//! number. So the text is scanned first (one dictionary, one tuple, nothing else that nests), the
//! shape is multiplied with overflow checks, and the size it implies must equal the size of the
//! file or archive member to the byte.

use std::io::Read;

use npyz::{DType, NpyHeader, Order, TypeChar, TypeStr};

/// A value, or in words why there is none; the caller knows the file and adds its name.
pub type Checked<T> = std::result::Result<T, String>;

/// NumPy's own default for `max_header_size`.
const MAX_HEADER: usize = 10_000;
const MAX_RANK: usize = 8;
/// Deflate cannot expand further than 1032:1; real images stay far below this.
const MAX_EXPANSION: u64 = 256;
/// So much in a file may expand as it likes (sorted labels compress very well).
const SMALL: u64 = 16 << 20;

/// A header whose claims agree with each other and with the size of the file.
#[derive(Clone)]
pub struct Header {
    pub npy: NpyHeader,
    pub dtype: TypeStr,
    pub shape: Vec<usize>,
    /// Elements: the product of `shape`.
    pub len: usize,
    /// Bytes of payload after the header.
    pub data_bytes: u64,
}

impl Header {
    /// The first axis varies fastest.
    pub fn fortran(&self) -> bool {
        self.npy.order() == Order::Fortran
    }

    pub fn is_integer(&self) -> bool {
        matches!(self.dtype.type_char(), TypeChar::Int | TypeChar::Uint)
    }

    /// Booleans, integers and floats can be pixels.
    pub fn is_numeric(&self) -> bool {
        self.is_integer() || matches!(self.dtype.type_char(), TypeChar::Bool | TypeChar::Float)
    }

    /// NumPy's name of the element type with the byte order where it matters: `<f4`, `|u1`.
    pub fn dtype_name(&self) -> String {
        self.dtype.to_string()
    }
}

/// Reads and checks the header of an array that occupies `total` bytes, header included.
///
/// Afterwards the reader stands at the first byte of data. An error is a reason in words, for the
/// caller to attach the name of the array.
pub fn read_header(reader: &mut impl Read, total: u64) -> Checked<Header> {
    let bytes = read_header_bytes(reader)?;
    let text_at = if bytes[6] == 1 { 10 } else { 12 };
    let text = std::str::from_utf8(&bytes[text_at..]).map_err(|_| "the header is not text")?;
    scan(text)?;
    let shape = parse_shape(text)?;
    // Elements times `unit`, at most what one allocation can hold. The parser multiplies sizes and
    // strides unchecked, so this comes first; zeros must not hide an overflow of the others.
    let product = |unit: u64, least: u64| {
        let mut dims = shape.iter().map(|&d| d.max(least));
        dims.try_fold(unit, u64::checked_mul)
            .filter(|&b| usize::try_from(b).is_ok_and(|b| isize::try_from(b).is_ok()))
            .ok_or_else(|| format!("the shape {shape:?} overflows"))
    };
    product(1, 1)?;

    let npy = NpyHeader::from_reader(&bytes[..]).map_err(|e| format!("bad npy header: {e}"))?;
    let DType::Plain(dtype) = npy.dtype() else {
        return Err("structured arrays are not read".into());
    };
    let item = match dtype.num_bytes() {
        None => {
            return Err(format!("elements of type {dtype} (Python objects, pickle) are not read"));
        }
        Some(0) => return Err(format!("elements of type {dtype} have no bytes")),
        Some(bytes) => bytes as u64,
    };
    product(item, 1)?;
    let data_bytes = product(item, 0)?;
    if npy.shape() != shape {
        return Err("the shape could not be read unambiguously".into());
    }
    if total != bytes.len() as u64 + data_bytes {
        return Err(format!(
            "shape {shape:?} of {dtype} needs {data_bytes} bytes of data, the file has {}",
            total.saturating_sub(bytes.len() as u64)
        ));
    }
    let shape: Vec<usize> = shape.iter().map(|&d| d as usize).collect();
    let len = shape.iter().product();
    Ok(Header { npy, dtype, shape, len, data_bytes })
}

/// What all compressed parts of one file may expand to together: more than any honest file of its size
/// does, and in proportion to it.
#[derive(Debug, Clone)]
pub struct Budget {
    file: u64,
    left: u64,
}

impl Budget {
    /// For a file of so many bytes.
    pub fn of(file: u64) -> Self {
        Budget { file, left: file.saturating_mul(MAX_EXPANSION).max(SMALL) }
    }

    /// Bytes that are left.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Takes the bytes that a part claims to hold, or refuses it, before any of it is decompressed.
    pub fn spend(&mut self, bytes: u64) -> Checked<()> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            format!(
                "a file of {} bytes claims to hold {bytes} and more: refused as a decompression bomb",
                self.file
            )
        })?;
        Ok(())
    }
}

/// A vector for `len` elements that a header claims: what memory does not hold is an error in words.
pub fn reserved<T>(len: usize) -> Checked<Vec<T>> {
    let mut data = Vec::new();
    data.try_reserve_exact(len)
        .map_err(|_| format!("{len} elements do not fit into the memory"))?;
    Ok(data)
}

/// Magic, version, length and text of the header, at most [`MAX_HEADER`] bytes of text.
fn read_header_bytes(reader: &mut impl Read) -> Checked<Vec<u8>> {
    let mut bytes = vec![0; 10];
    let short = |_| "too short for an npy header".to_string();
    reader.read_exact(&mut bytes).map_err(short)?;
    if &bytes[..6] != b"\x93NUMPY" {
        return Err("not an npy array (wrong magic)".into());
    }
    let len = match bytes[6] {
        1 => usize::from(u16::from_le_bytes([bytes[8], bytes[9]])),
        2 | 3 => {
            bytes.resize(12, 0);
            reader.read_exact(&mut bytes[10..]).map_err(short)?;
            u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as usize
        }
        v => return Err(format!("npy version {v} is unknown")),
    };
    if len > MAX_HEADER {
        return Err(format!("a header of {len} bytes (at most {MAX_HEADER} are accepted)"));
    }
    let at = bytes.len();
    bytes.resize(at + len, 0);
    reader.read_exact(&mut bytes[at..]).map_err(short)?;
    Ok(bytes)
}

/// Nothing that makes a literal parser recurse or backtrack: one dictionary holding one tuple.
fn scan(text: &str) -> Checked<()> {
    let count = |c: char| text.matches(c).count();
    if !text.bytes().all(|b| matches!(b, b' '..=b'~' | b'\n')) {
        return Err("the header has bytes that are not printable ASCII".into());
    }
    if text.contains(['[', '\\']) {
        return Err("the header has lists or escapes (structured arrays are not read)".into());
    }
    if !text.starts_with('{') || count('{') != 1 || count('(') != 1 {
        return Err("the header is not one plain dictionary".into());
    }
    Ok(())
}

/// The integers between the only pair of parentheses.
fn parse_shape(text: &str) -> Checked<Vec<u64>> {
    let inside = text
        .split_once('(')
        .and_then(|(_, rest)| rest.split_once(')'))
        .map(|(inside, _)| inside)
        .ok_or("the header has no shape")?;
    let mut parts: Vec<&str> = inside.split(',').map(str::trim).collect();
    if parts.last() == Some(&"") {
        parts.pop();
    }
    if parts.len() > MAX_RANK {
        return Err(format!("rank {} (at most {MAX_RANK} is accepted)", parts.len()));
    }
    let digits = |s: &&str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !parts.iter().all(digits) {
        return Err(format!("the shape ({inside}) is not a tuple of sizes"));
    }
    parts.iter().map(|s| s.parse().map_err(|_| format!("the shape ({inside}) overflows"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An npy version 1 file with this header text and `data` bytes of payload.
    fn file(text: &str, data: usize) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.bytes());
        bytes.resize(bytes.len() + data, 7);
        bytes
    }

    fn parse(text: &str, data: usize) -> Checked<Header> {
        let bytes = file(text, data);
        read_header(&mut &bytes[..], bytes.len() as u64)
    }

    fn dict(descr: &str, shape: &str) -> String {
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}\n")
    }

    #[test]
    fn honest_headers() {
        let h = parse(&dict("<f4", "2, 3, 4"), 96).unwrap();
        assert_eq!((h.shape, h.len, h.data_bytes), (vec![2, 3, 4], 24, 96));
        assert_eq!(parse(&dict("|u1", ""), 1).unwrap().len, 1);
        assert_eq!(parse(&dict(">i8", "5,"), 40).unwrap().dtype_name(), ">i8");
        assert_eq!(parse(&dict("|u1", "0, 4, 4"), 0).unwrap().len, 0);
    }

    /// Counts what was read of a slice.
    struct Counting<'a> {
        left: &'a [u8],
        read: usize,
    }

    impl Read for Counting<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let n = self.left.read(buffer)?;
            self.read += n;
            Ok(n)
        }
    }

    /// Each of these is refused at its header: no byte of data is read. That no parser saw it either
    /// is what the reasons say.
    #[test]
    fn hostile_headers() {
        let nested = format!("{{'descr': {}", "[".repeat(22));
        assert_eq!(file(&nested, 0).len(), 42);
        let many = format!("{{'descr': {}", "(".repeat(64));
        let cases: &[(&str, &str)] = &[
            (&nested, "lists or escapes"),
            (&many, "plain dictionary"),
            (&dict("|u1", "8589934592, 8589934592"), "overflows"),
            (&dict("|u1", "0, 8589934592, 8589934592"), "overflows"),
            (&dict("<f8", "4611686018427387904,"), "overflows"),
            (&dict("|u1", "99999999999999999999999,"), "overflows"),
            (&dict("|u1", "-1, 4"), "not a tuple of sizes"),
            (&dict("|u1", "2, , 4"), "not a tuple of sizes"),
            (&dict("|u1", "1, 1, 1, 1, 1, 1, 1, 1, 1"), "rank 9"),
            (&dict("|O", "4,"), "pickle"),
            (&dict("<U0", "1099511627776,"), "no bytes"),
            (&dict("<U4611686018427387904", "4,"), "bad npy header"),
            (&dict("|u1", "1000000000000,"), "needs 1000000000000 bytes"),
            (&dict("|u1", "4\\n"), "lists or escapes"),
            ("{'descr': '|u1', 'fortran_order': False}", "plain dictionary"),
            ("{'descr': {'shape': (3,)}}", "plain dictionary"),
            ("", "plain dictionary"),
        ];
        for (text, expect) in cases {
            let bytes = file(text, 16);
            let mut reader = Counting { left: &bytes, read: 0 };
            let reason = read_header(&mut reader, bytes.len() as u64).err().unwrap_or_default();
            assert!(reason.contains(expect), "{text:?}: {reason:?} lacks {expect:?}");
            assert!(reader.read <= bytes.len() - 16, "{text:?}: {} bytes read", reader.read);
        }
        // A length that the header only claims is not read either.
        let mut long = b"\x93NUMPY\x02\x00".to_vec();
        long.extend((1u32 << 20).to_le_bytes());
        long.resize(1 << 21, b' ');
        let mut reader = Counting { left: &long, read: 0 };
        let reason = read_header(&mut reader, long.len() as u64).err().unwrap_or_default();
        assert!(reason.contains("1048576 bytes") && reader.read == 12, "{reason}: {}", reader.read);
    }

    #[test]
    fn truncated_and_oversized() {
        let whole = file(&dict("|u1", "4,"), 4);
        for cut in 0..whole.len() {
            assert!(read_header(&mut &whole[..cut], cut as u64).is_err(), "cut at {cut}");
        }
        assert!(read_header(&mut &whole[..], whole.len() as u64 + 1).is_err());
        let mut long = b"\x93NUMPY\x02\x00".to_vec();
        long.extend(u32::MAX.to_le_bytes());
        let reason = read_header(&mut &long[..], 1 << 40).err().unwrap();
        assert!(reason.contains("4294967295 bytes"), "{reason}");
    }

    #[test]
    fn expansion() {
        let spend = |file, parts: &[u64]| {
            let mut budget = Budget::of(file);
            parts.iter().try_for_each(|&bytes| budget.spend(bytes))
        };
        assert!(spend(1, &[SMALL]).is_ok());
        assert!(spend(1, &[SMALL, 1]).is_err());
        assert!(spend(1 << 20, &[1 << 28]).is_ok());
        assert!(spend(1 << 20, &[1 << 27, 1 << 27]).is_ok());
        assert!(spend(1 << 20, &[1 << 27, 1 << 27, 1]).is_err());
        assert!(spend(10, &[u64::MAX]).is_err());
        assert!(spend(u64::MAX, &[u64::MAX]).is_ok());
        // What was refused does not count.
        let mut budget = Budget::of(1);
        assert!(budget.spend(SMALL + 1).is_err() && budget.spend(SMALL).is_ok());
        assert!(reserved::<f64>(usize::MAX / 8).is_err() && reserved::<u8>(9).is_ok());
    }
}
