//! Where the tuner's tables live: one file for each adapter and driver in the user's cache folder,
//! and in a run folder the choices that the run was made with.

use super::common::tell;
use std::io::Write;
use std::path::{Path, PathBuf};
use vqforge::data::atomic::write_atomically;
use vqforge::device::Device;
use vqforge::device::tuner::{Choice, Mode, Refused, Table, Tuner};
use vqforge::error::{Error, Result};
use vqforge::train::RunFolder;

/// The choices of a run, in its folder.
const CHOICES: &str = "tune.txt";

/// Gives the device a tuner over the table of its adapter.
///
/// # Errors
/// A table that cannot be read: it is never written over.
pub fn equip(device: &mut dyn Device, mode: Mode) -> Result<()> {
    if mode == Mode::Off || device.tuner().is_none() {
        return Ok(());
    }
    let Some(path) = cache_folder().map(|f| f.join(file_name(&*device))) else {
        if mode == Mode::Now {
            tell("warning: no cache folder here; what the tuner measures is not kept");
        }
        device.set_tuner(Tuner::new(mode, Table::default(), Box::new(report)));
        return Ok(());
    };
    let known = if path.exists() { read(&path)? } else { Table::default() };
    let keep = move |table: &Table, choice: &_, refused: &[Refused]| {
        report(table, choice, refused);
        if let Err(e) = save(&path, table) {
            tell(&format!("warning: {e}"));
        }
    };
    device.set_tuner(Tuner::new(mode, known, Box::new(keep)));
    Ok(())
}

/// Writes the choices of a run into its folder.
pub fn keep_choices(device: &dyn Device, folder: &RunFolder) -> Result<()> {
    let used = device.tuner().map(Tuner::used).filter(|t| !t.is_empty());
    match used {
        Some(table) => {
            write_atomically(&folder.file(CHOICES), |w| w.write_all(table.text().as_bytes()))
        }
        None => Ok(()),
    }
}

/// Makes a continued run take the choices it was started with, and no others.
pub fn continue_with(device: &mut dyn Device, run: &Path) -> Result<()> {
    let path = run.join(CHOICES);
    let table = if path.exists() { read(&path)? } else { Table::default() };
    device.set_tuner(Tuner::fixed(table));
    Ok(())
}

fn report(_: &Table, choice: &Choice, refused: &[Refused]) {
    tell(&format!("tuned {}: {} ({:.2}x)", choice.key, choice.variant, choice.gain));
    for Refused { variant, why } in refused {
        tell(&format!("  without {variant}: {why}"));
    }
}

fn read(path: &Path) -> Result<Table> {
    let bad = |e: &dyn std::fmt::Display| {
        Error::disk("cannot read the tuner table").at_path(path).why(e).help(
            "delete the file, or run with --tune off; it only holds measurements of this machine",
        )
    };
    let text = std::fs::read_to_string(path).map_err(|e| bad(&e))?;
    Table::parse(&text).map_err(|e| bad(&e))
}

/// Adds to what another process may have measured meanwhile.
fn save(path: &Path, table: &Table) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|e| Error::disk("cannot create the folder").at_path(folder).why(e))?;
    }
    let mut all = table.clone();
    if path.exists() {
        all.merge(read(path)?);
    }
    write_atomically(path, |w| w.write_all(all.text().as_bytes()))
}

fn file_name(device: &dyn Device) -> PathBuf {
    let name = format!("{} {}", device.describe(), device.driver());
    let plain = name.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let words: Vec<&str> = plain.split('-').filter(|w| !w.is_empty()).collect();
    PathBuf::from(format!("{}.txt", words.join("-")))
}

/// `VQFORGE_CACHE`, or the platform's folder for caches.
fn cache_folder() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
    if let Some(own) = variable("VQFORGE_CACHE") {
        return Some(PathBuf::from(own).join("tune"));
    }
    let base = if cfg!(windows) {
        PathBuf::from(variable("LOCALAPPDATA")?)
    } else if cfg!(target_os = "macos") {
        PathBuf::from(variable("HOME")?).join("Library/Caches")
    } else {
        variable("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(variable("HOME")?).join(".cache")))?
    };
    Some(base.join("vqforge").join("tune"))
}
