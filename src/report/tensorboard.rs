//! Event files for TensorBoard: scalars and pictures over the steps of a run.
//!
//! A file is a row of records (length, masked CRC-32C of the length, bytes, masked CRC-32C of the
//! bytes); each record is one `Event` of TensorFlow's `event.proto`, of which only a handful of fields
//! are needed and encoded here by hand.

use super::crc32c::masked;
use crate::error::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// How the names of event files begin.
pub const EVENT_FILES: &str = "events.out.tfevents.";

/// Seconds since 1970.
pub type Clock = fn() -> f64;

/// The wall clock.
pub fn wall_clock() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// An event file being written: one a process, many in a folder, read in the order of their names.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    out: BufWriter<File>,
    clock: Clock,
}

impl EventWriter {
    /// A new event file in a folder. A continued run tells `first_step`, the first step it does (again):
    /// TensorBoard then forgets what earlier files say of this and later steps.
    ///
    /// # Errors
    /// The file cannot be made (exit code 5).
    pub fn create(folder: &Path, first_step: Option<u64>) -> Result<Self> {
        Self::with_clock(folder, first_step, wall_clock)
    }

    /// As [`create`](Self::create), with another clock.
    pub fn with_clock(folder: &Path, first_step: Option<u64>, clock: Clock) -> Result<Self> {
        let (path, file) = new_file(folder, clock())?;
        let mut writer = EventWriter { path, out: BufWriter::new(file), clock };
        let mut version = Message::default();
        version.bytes(FILE_VERSION, b"brain.Event:2");
        writer.event(0, &version)?;
        if let Some(step) = first_step {
            let mut log = Message::default();
            log.integer(1, SESSION_START);
            let mut event = Message::default();
            event.message(SESSION_LOG, &log);
            writer.event(step, &event)?;
        }
        writer.flush()?;
        Ok(writer)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Numbers of a step. `group/name` puts a curve into a group.
    pub fn scalars<'a>(
        &mut self,
        step: u64,
        values: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> Result<()> {
        let mut summary = Message::default();
        for (tag, number) in values {
            let mut value = Message::default();
            value.bytes(1, tag.as_bytes());
            value.float(2, number as f32);
            summary.message(1, &value);
        }
        self.summary(step, &summary)
    }

    /// A picture of a step: the bytes of a PNG file.
    ///
    /// # Errors
    /// Bytes that are no PNG file; a full disk.
    pub fn image(&mut self, step: u64, tag: &str, png: &[u8]) -> Result<()> {
        let Some((width, height)) = super::png::size(png) else {
            return Err(Error::failed(format!("the picture {tag} is no PNG file")));
        };
        let mut image = Message::default();
        image.integer(1, u64::from(height));
        image.integer(2, u64::from(width));
        image.integer(3, COLORSPACE_RGB);
        image.bytes(4, png);
        let mut value = Message::default();
        value.bytes(1, tag.as_bytes());
        value.message(4, &image);
        let mut summary = Message::default();
        summary.message(1, &value);
        self.summary(step, &summary)
    }

    /// Hands everything to the system, for a TensorBoard that is looking on.
    pub fn flush(&mut self) -> Result<()> {
        self.out.flush().map_err(|e| self.bad(e))
    }

    fn summary(&mut self, step: u64, summary: &Message) -> Result<()> {
        let mut event = Message::default();
        event.message(SUMMARY, summary);
        self.event(step, &event)
    }

    fn event(&mut self, step: u64, what: &Message) -> Result<()> {
        let mut event = Message::default();
        event.double(1, (self.clock)());
        event.integer(2, step);
        event.0.extend(&what.0);
        let length = (event.0.len() as u64).to_le_bytes();
        let parts: [&[u8]; 4] =
            [&length, &masked(&length).to_le_bytes(), &event.0, &masked(&event.0).to_le_bytes()];
        self.out.write_all(&parts.concat()).map_err(|e| self.bad(e))
    }

    fn bad(&self, e: std::io::Error) -> Error {
        Error::disk("cannot write the events").at_path(&self.path).why(e)
    }
}

/// `events.out.tfevents.SECONDS.vqforge.PROCESS.N`: by time in alphabetical order, and never one that
/// is there.
fn new_file(folder: &Path, seconds: f64) -> Result<(PathBuf, File)> {
    let process = std::process::id();
    for n in 0u32.. {
        let name = format!("{EVENT_FILES}{:010}.vqforge.{process}.{n}", seconds as u64);
        let path = folder.join(name);
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::disk("cannot make the event file").at_path(&path).why(e)),
        }
    }
    Err(Error::disk("cannot make an event file").at_path(folder).why("all names are taken"))
}

/// Fields of `Event`, beside `wall_time` (1) and `step` (2).
const FILE_VERSION: u64 = 3;
const SUMMARY: u64 = 5;
const SESSION_LOG: u64 = 7;
/// `SessionLog.SessionStatus`.
const SESSION_START: u64 = 1;
/// `Summary.Image.colorspace`; readers go by the PNG itself.
const COLORSPACE_RGB: u64 = 3;

/// Fields of a protocol buffer, encoded.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 128 {
            self.0.push(value as u8 | 128);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn integer(&mut self, field: u64, value: u64) {
        self.varint(field << 3);
        self.varint(value);
    }

    fn double(&mut self, field: u64, value: f64) {
        self.varint(field << 3 | 1);
        self.0.extend(value.to_le_bytes());
    }

    fn float(&mut self, field: u64, value: f32) {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
    }

    fn message(&mut self, field: u64, message: &Message) {
        self.bytes(field, &message.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::Scratch;
    use crate::report::{Raster, crc32c::crc32c, encode};

    /// A field: number, and its value as bytes (integers as eight).
    type Field = (u64, Vec<u8>);

    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                break;
            }
        }
        value
    }

    fn fields(mut bytes: &[u8]) -> Vec<Field> {
        let mut out = vec![];
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let length = match key & 7 {
                0 => {
                    out.push((key >> 3, varint(&mut bytes).to_le_bytes().to_vec()));
                    continue;
                }
                1 => 8,
                2 => varint(&mut bytes) as usize,
                5 => 4,
                kind => panic!("wire type {kind}"),
            };
            out.push((key >> 3, bytes[..length].to_vec()));
            bytes = &bytes[length..];
        }
        out
    }

    fn field(fields: &[Field], number: u64) -> &[u8] {
        &fields.iter().find(|f| f.0 == number).unwrap().1
    }

    fn int(bytes: &[u8]) -> u64 {
        u64::from_le_bytes(bytes.try_into().unwrap())
    }

    /// The events of a file, every checksum seen to.
    fn events(path: &Path) -> Vec<Vec<Field>> {
        let unmask = |stored: &[u8]| {
            let stored = u32::from_le_bytes(stored.try_into().unwrap());
            stored.wrapping_sub(0xa282_ead8).rotate_left(15)
        };
        let file = std::fs::read(path).unwrap();
        let (mut rest, mut out) = (&file[..], vec![]);
        while !rest.is_empty() {
            let length = int(&rest[..8]) as usize;
            assert_eq!(unmask(&rest[8..12]), crc32c(&rest[..8]));
            let data = &rest[12..12 + length];
            assert_eq!(unmask(&rest[12 + length..16 + length]), crc32c(data));
            out.push(fields(data));
            rest = &rest[16 + length..];
        }
        out
    }

    #[test]
    fn read_back() {
        let dir = Scratch::new("events");
        let folder = dir.path("");
        let mut writer = EventWriter::with_clock(&folder, None, || 1.5e9).unwrap();
        let name = writer.path().file_name().unwrap().to_str().unwrap().to_string();
        assert!(name.starts_with("events.out.tfevents.1500000000."), "{name}");
        writer.scalars(300, [("loss", 0.25), ("eval/psnr", f64::NAN)]).unwrap();
        let raster = Raster { width: 3, height: 2, channels: 1, pixels: vec![7; 6] };
        let png = encode(&raster).unwrap();
        writer.image(300, "recon", &png).unwrap();
        assert_eq!(writer.image(1, "x", b"no PNG").unwrap_err().exit_code(), 1);
        writer.flush().unwrap();
        let events = events(writer.path());
        assert_eq!(events.len(), 3);
        assert_eq!(field(&events[0], 3), b"brain.Event:2");
        for event in &events {
            assert_eq!(field(event, 1), 1.5e9f64.to_le_bytes());
        }
        assert_eq!(int(field(&events[1], 2)), 300);
        let summary = fields(field(&events[1], 5));
        let values: Vec<Vec<Field>> = summary.iter().map(|v| fields(&v.1)).collect();
        assert_eq!(field(&values[0], 1), b"loss");
        assert_eq!(field(&values[0], 2), 0.25f32.to_le_bytes());
        assert_eq!(field(&values[1], 1), b"eval/psnr");
        let value = fields(field(&fields(field(&events[2], 5)), 1));
        assert_eq!(field(&value, 1), b"recon");
        let image = fields(field(&value, 4));
        assert_eq!((int(field(&image, 1)), int(field(&image, 2))), (2, 3));
        assert_eq!(field(&image, 4), png);
    }

    /// A second process in the same second gets a later file, and says what to forget.
    #[test]
    fn continued() {
        let dir = Scratch::new("events-again");
        let folder = dir.path("");
        let first = EventWriter::with_clock(&folder, None, || 7.0).unwrap();
        let second = EventWriter::with_clock(&folder, Some(251), || 7.0).unwrap();
        assert!(first.path() < second.path());
        let start = &events(second.path())[1];
        assert_eq!(int(field(start, 2)), 251);
        assert_eq!(int(field(&fields(field(start, 7)), 1)), 1);
        assert_eq!(events(first.path()).len(), 1);
        let missing = EventWriter::create(&dir.path("none"), None).unwrap_err();
        assert_eq!(missing.exit_code(), 5);
    }
}
