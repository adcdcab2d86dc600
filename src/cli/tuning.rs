//! Where the tuner's tables live: one file for each adapter and driver in the user's cache folder. A
//! run keeps its own choices, see [`vqforge::train::choices`].

use std::io::Write;
use std::path::{Path, PathBuf};
use vqforge::data::atomic::write_atomically;
use vqforge::device::Device;
use vqforge::device::tuner::{Choice, Mode, Refused, Table, Tuner};
use vqforge::error::{Error, Result};
use vqforge::train::Console;

/// Gives the device a tuner over the table of its adapter.
///
/// # Errors
/// A table that cannot be read: it is never written over.
pub fn equip(device: &mut dyn Device, mode: Mode, console: &Console) -> Result<()> {
    if mode == Mode::Off || device.tuner().is_none() {
        return Ok(());
    }
    let mut console = console.clone();
    let path = cache_folder().map(|f| f.join(file_name(&*device)));
    let known = match &path {
        Some(path) if path.exists() => read(path)?,
        Some(_) => Table::default(),
        None => {
            if mode == Mode::Now {
                console.line("warning: no cache folder here; what the tuner measures is not kept");
            }
            Table::default()
        }
    };
    let keep = move |table: &Table, choice: &Choice, refused: &[Refused]| {
        let Choice { key, variant, gain, .. } = choice;
        console.line(&format!("tuned {key}: {variant} ({gain:.2}x)"));
        for Refused { variant, why } in refused {
            console.line(&format!("  without {variant}: {why}"));
        }
        if let Some(Err(e)) = path.as_ref().map(|path| save(path, table)) {
            console.line(&format!("warning: {e}"));
        }
    };
    device.set_tuner(Tuner::new(mode, known, Box::new(keep)));
    Ok(())
}

/// How many kernels run in which form, for the line that a run starts with; nothing on a device
/// without variants.
pub fn summary(device: &dyn Device) -> String {
    let Some(tuner) = device.tuner() else { return String::new() };
    // The baseline's gain over itself is 1.
    let tuned = tuner.used().choices().filter(|c| c.gain > 1.0).count();
    match tuner.decided() {
        0 => "; baselines only".into(),
        all => format!("; {tuned} kernels tuned, {} baselines", all - tuned),
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
