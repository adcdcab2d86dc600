//! Buffers that live for one measurement or check, filled and read back as a whole.

use super::{Device, Range};
use crate::error::Result;

/// A buffer for each of `contents`, holding it.
pub fn upload(
    device: &mut dyn Device,
    contents: impl IntoIterator<Item = Vec<u32>>,
) -> Result<Vec<Range>> {
    let mut ranges = vec![];
    for words in contents {
        let buffer = device.create_buffer(words.len(), "scratch")?;
        device.write(buffer, 0, &words)?;
        ranges.push(Range { buffer, offset: 0, len: words.len() });
    }
    Ok(ranges)
}

/// What the ranges hold once all submitted work is done.
pub fn download<'a>(
    device: &mut dyn Device,
    ranges: impl IntoIterator<Item = &'a Range>,
) -> Result<Vec<Vec<u32>>> {
    let mut contents = vec![];
    for range in ranges {
        let mut words = vec![0; range.len];
        device.read(range.buffer, range.offset, &mut words)?;
        contents.push(words);
    }
    Ok(contents)
}
