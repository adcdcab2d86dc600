//! Files that lie about what they hold.

use std::io::{Cursor, Write};

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::testing::Scratch;
use super::tests::{gray, npy, npz, refused};
use super::{Dataset, LabelChoice};

/// Small files that claim to be large, or lie in other ways: refused by what they claim, before
/// anything is decompressed or allocated. Which check refused, the messages say.
#[test]
fn bombs() {
    let dir = Scratch::new("bombs");
    let zeros = npy("|u1", false, &[17, 1024, 1024], &vec![0; 17 << 20]);
    let bomb = npz(&[("images.npy", zeros)]);
    assert!(bomb.len() < 20_000);
    let path = dir.file("zeros.npz", &bomb);
    refused(&path, &["no image array", "decompression bomb"]);

    let claim = npy("|u1", false, &[1 << 20, 1 << 10, 1 << 10], &[0; 64]);
    refused(&dir.file("claim.npz", &npz(&[("images.npy", claim.clone())])), &["needs 10995"]);
    refused(&dir.file("claim.npy", &claim), &["needs 10995"]);

    // A stored member that claims a tebibyte, in its header, in the directory, and in the array.
    let huge = npy("|u1", false, &[1 << 20, 1 << 10, 1 << 10], &[0; 64]);
    let header = huge.len() as u64 - 64;
    let claimed = ((1u64 << 40) + header).to_le_bytes();
    let (name, crc) = (b"images.npy", [0u8; 4]);
    let sizes = [[0xff; 4], [0xff; 4]].concat();
    let extra = [&[1, 0, 16, 0][..], &claimed, &claimed].concat();
    let lengths = [(name.len() as u16).to_le_bytes(), 20u16.to_le_bytes()].concat();
    let common = [&[45, 0, 0, 0, 0, 0, 0, 0, 0x21, 0][..], &crc, &sizes, &lengths].concat();
    let mut file = [b"PK\x03\x04", &common[..], name, &extra, &huge].concat();
    let directory = file.len() as u32;
    file.extend([b"PK\x01\x02\x2d\x00", &common[..], &[0; 14], name, &extra].concat());
    let length = file.len() as u32 - directory;
    file.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    file.extend([length.to_le_bytes(), directory.to_le_bytes()].concat());
    file.extend([0, 0]);
    refused(&dir.file("stored-claim.npz", &file), &["no image array", "decompression bomb"]);

    // Many members that each stay small, and together do not.
    let zeros = npy("|u1", false, &[9, 1024, 1024], &vec![0; 9 << 20]);
    let names = ["a.npy", "b.npy"].map(|name| (name, zeros.clone()));
    let path = dir.file("many.npz", &npz(&names));
    let data = Dataset::load(&path, &LabelChoice::Auto).unwrap();
    assert!(data.warnings.join(" ").contains("'b' was skipped"), "{:?}", data.warnings);

    // The directory of the archive announces more, or less, than the member holds.
    let honest = npz(&[("images.npy", npy("|u1", false, &[1, 8, 8], &[3; 64]))]);
    let size = (npy("|u1", false, &[1, 8, 8], &[3; 64]).len() as u32).to_le_bytes();
    let directory = honest.windows(4).rposition(|w| w == size).unwrap();
    for by in [1i32, -1, 1 << 24] {
        let mut lie = honest.clone();
        let new = u32::from_le_bytes(size).wrapping_add_signed(by);
        lie[directory..directory + 4].copy_from_slice(&new.to_le_bytes());
        refused(&dir.file("lie.npz", &lie), &["bytes"]);
    }
    let mut flipped = honest.clone();
    let data_at = 30 + "images.npy".len() + 12;
    flipped[data_at] ^= 1;
    refused(&dir.file("flip.npz", &flipped), &[]);
    // Uncompressed, so that only the checksum can tell.
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file("images.npy", stored).unwrap();
    zip.write_all(&npy("|u1", false, &[1, 8, 8], &[3; 64])).unwrap();
    let mut stored = zip.finish().unwrap().into_inner();
    assert!(Dataset::open(dir.file("stored.npz", &stored)).is_ok());
    let pixel = stored.windows(8).position(|w| w == [3; 8]).unwrap();
    stored[pixel] ^= 1;
    refused(&dir.file("stored.npz", &stored), &["'images' cannot be read", "checksum"]);
    for cut in 0..honest.len() {
        refused(&dir.file("cut.npz", &honest[..cut]), &[]);
    }

    // A PNG header of any size costs nothing to write.
    let mut huge = gray(1, 1, 0);
    huge[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    let crc = crc32(&huge[12..29]);
    huge[29..33].copy_from_slice(&crc.to_be_bytes());
    refused(dir.file("h/a.png", &huge).parent().unwrap(), &["60000 x 60000", "a.png"]);
    huge[16..24].copy_from_slice(&[0, 0, 0x40, 0, 0, 0, 0x40, 0]);
    let crc = crc32(&huge[12..29]);
    huge[29..33].copy_from_slice(&crc.to_be_bytes());
    refused(dir.file("h/a.png", &huge).parent().unwrap(), &["decompression bomb", "a.png"]);
}

/// The checksum of PNG chunks, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |c, _| (c >> 1) ^ (0xedb8_8320 & (c & 1).wrapping_neg()))
    })
}
