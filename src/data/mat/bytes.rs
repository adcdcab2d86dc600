//! Tagged elements and the numbers in them.

use crate::data::header::Checked;

/// One element: what its bytes are, and the bytes.
pub struct Tag<'a> {
    pub kind: u32,
    pub body: &'a [u8],
}

/// What is left of a sequence of elements.
pub struct Cursor<'a> {
    rest: &'a [u8],
    big: bool,
}

const COMPRESSED: u32 = 15;

impl<'a> Cursor<'a> {
    pub fn new(rest: &'a [u8], big: bool) -> Self {
        Cursor { rest, big }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes that are left.
    pub fn len(&self) -> usize {
        self.rest.len()
    }

    fn take(&mut self, n: usize) -> Checked<&'a [u8]> {
        let (head, rest) = self
            .rest
            .split_at_checked(n)
            .ok_or_else(|| format!("{n} bytes are announced, {} are left", self.rest.len()))?;
        self.rest = rest;
        Ok(head)
    }

    /// The next element. Elements are padded to 8 bytes, except compressed ones; up to four bytes
    /// fit into the tag itself, whose kind then shares a word with the length.
    pub fn element(&mut self) -> Checked<Tag<'a>> {
        let tag = self.take(8)?;
        let word = |at: usize| {
            let bytes = [tag[at], tag[at + 1], tag[at + 2], tag[at + 3]];
            if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
        };
        let (first, second) = (word(0), word(4));
        if first >> 16 != 0 {
            let len = (first >> 16) as usize;
            let body = tag[4..].get(..len).ok_or("a short element has more than 4 bytes")?;
            return Ok(Tag { kind: first & 0xffff, body });
        }
        let len = second as usize;
        let body = self.take(len)?;
        if first != COMPRESSED {
            // The padding of the last element may be missing.
            let padding = (len.wrapping_neg() & 7).min(self.rest.len());
            self.take(padding)?;
        }
        Ok(Tag { kind: first, body })
    }
}

/// Bytes of one number of a kind; 0 for anything else.
pub fn width(kind: u32) -> usize {
    match kind {
        1 | 2 | 16 => 1,
        3 | 4 | 17 => 2,
        5..=7 | 18 => 4,
        9 | 12 | 13 => 8,
        _ => 0,
    }
}

/// All numbers of an element. 64-bit integers beyond 2^53 are rounded.
pub fn numbers<'a>(tag: &Tag<'a>, big: bool) -> Checked<impl Iterator<Item = f64> + 'a + use<'a>> {
    let (kind, width) = (tag.kind, width(tag.kind));
    if width == 0 || !tag.body.len().is_multiple_of(width) {
        return Err(format!("{} bytes of numbers of kind {kind}", tag.body.len()));
    }
    Ok(tag.body.chunks_exact(width).map(move |chunk| {
        let mut b = [0u8; 8];
        b[..width].copy_from_slice(chunk);
        if big {
            b[..width].reverse();
        }
        let [b0, b1, b2, b3, ..] = b;
        match kind {
            1 => f64::from(b0 as i8),
            2 | 16 => f64::from(b0),
            3 => f64::from(i16::from_le_bytes([b0, b1])),
            4 | 17 => f64::from(u16::from_le_bytes([b0, b1])),
            5 => f64::from(i32::from_le_bytes([b0, b1, b2, b3])),
            6 | 18 => f64::from(u32::from_le_bytes([b0, b1, b2, b3])),
            7 => f64::from(f32::from_le_bytes([b0, b1, b2, b3])),
            9 => f64::from_le_bytes(b),
            12 => i64::from_le_bytes(b) as f64,
            _ => u64::from_le_bytes(b) as f64,
        }
    }))
}
