//! Files that appear whole or not at all: written under another name, flushed to disk, renamed.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Writes a file through `fill`. If anything fails the old file, if there was one, is untouched
/// and the partial one is removed. Errors have exit code 5.
pub fn write_atomically(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
) -> Result<()> {
    write_atomically_after(path, fill, || Ok(()))
}

/// As [`write_atomically`]; `ready` runs when the new file is on disk under its temporary name and
/// the old one still in its place.
pub fn write_atomically_after(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
    ready: impl FnOnce() -> std::io::Result<()>,
) -> Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let bad = |e: std::io::Error| {
        Error::disk("the file cannot be written")
            .at_path(path)
            .why(e)
            .help("check the folder, its permissions and the free space")
    };
    let name = path
        .file_name()
        .ok_or_else(|| Error::usage("a file name is needed to write to").at_path(path))?;
    let unique = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let temporary =
        path.with_file_name(format!(".{}.{}-{}.tmp", name.to_string_lossy(), unique.0, unique.1));
    let write = || -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        // Readable so that archive writers can seek back and patch their headers.
        let file = options.read(true).write(true).create_new(true).open(&temporary)?;
        let mut writer = BufWriter::with_capacity(1 << 16, file);
        fill(&mut writer)?;
        writer.flush()?;
        writer.get_ref().sync_all()?;
        drop(writer);
        ready()?;
        std::fs::rename(&temporary, path)?;
        sync_folder(path)
    };
    write().map_err(|e| {
        // The error at hand matters more than a leftover that could not be removed.
        let _ = std::fs::remove_file(&temporary);
        bad(e)
    })
}

/// Makes the rename itself durable, where folders can be flushed.
#[cfg(unix)]
fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    tolerated(File::open(folder).and_then(|folder| folder.sync_all()))
}

/// The file is in its place: that a file system flushes no folders (some network and shared ones), or
/// lets nobody open them, is no reason to call it unwritten.
#[cfg(unix)]
fn tolerated(flushed: std::io::Result<()>) -> std::io::Result<()> {
    use std::io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    match flushed {
        Err(e) if matches!(e.kind(), InvalidInput | PermissionDenied | Unsupported) => Ok(()),
        other => other,
    }
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::Scratch;

    #[cfg(unix)]
    #[test]
    fn folders_that_cannot_be_flushed() {
        use std::io::{Error, ErrorKind};
        for kind in [ErrorKind::InvalidInput, ErrorKind::Unsupported, ErrorKind::PermissionDenied] {
            assert!(tolerated(Err(kind.into())).is_ok());
        }
        assert!(tolerated(Err(Error::other("input/output error"))).is_err());
        assert!(tolerated(Err(ErrorKind::StorageFull.into())).is_err());
    }

    #[test]
    fn all_or_nothing() {
        let dir = Scratch::new("atomic");
        let path = dir.path("file.txt");
        write_atomically(&path, |w| w.write_all(b"first")).unwrap();
        let error = write_atomically(&path, |w| {
            w.write_all(b"half of the sec")?;
            Err(std::io::Error::other("disk full"))
        });
        let error = error.unwrap_err();
        assert_eq!(error.exit_code(), 5);
        assert!(error.to_string().contains("disk full"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        write_atomically(&path, |w| w.write_all(b"second")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        assert_eq!(std::fs::read_dir(dir.path("")).unwrap().count(), 1, "leftovers");
        let missing = dir.path("no/such/folder/file");
        assert_eq!(write_atomically(&missing, |_| Ok(())).unwrap_err().exit_code(), 5);
    }
}
