//! What lies in a run folder besides its numbers. Anything may be missing.

use super::html::Picture;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Larger pictures stay beside the report instead of inside of it.
const LARGEST_PICTURE: u64 = 8 << 20;
/// Longer headers are no checkpoint's.
const LARGEST_HEADER: u64 = 64 << 20;

/// The text of a file of the run, if it is there.
pub fn text(run: &Path, name: &str) -> Option<String> {
    let bytes = std::fs::read(run.join(name)).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The resolved settings.
pub fn config(run: &Path) -> toml::Table {
    text(run, "config.toml").and_then(|t| t.parse().ok()).unwrap_or_default()
}

/// The circumstances.
pub fn environment(run: &Path) -> serde_json::Map<String, Value> {
    text(run, "env.json").and_then(|t| serde_json::from_str(&t).ok()).unwrap_or_default()
}

/// A setting by its dotted name, as text.
pub fn setting(config: &toml::Table, name: &str) -> Option<String> {
    let mut parts = name.split('.');
    let mut value = config.get(parts.next()?)?;
    for part in parts {
        value = value.as_table()?.get(part)?;
    }
    match value {
        toml::Value::String(s) => Some(s.clone()),
        toml::Value::Table(_) => None,
        toml::Value::Array(list) => {
            let items: Vec<String> = list.iter().map(ToString::to_string).collect();
            (!items.is_empty()).then(|| items.join(", "))
        }
        other => Some(other.to_string()),
    }
}

/// A whole number by its dotted name.
pub fn integer(config: &toml::Table, name: &str) -> Option<u64> {
    setting(config, name)?.parse().ok()
}

/// A saved state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    pub name: String,
    pub bytes: u64,
    /// What is noted in its header: `kind`, `step` and more.
    pub notes: BTreeMap<String, String>,
}

/// The checkpoints of a run by name. Only their headers are read.
pub fn checkpoints(run: &Path) -> Vec<Checkpoint> {
    let read = |path: PathBuf| {
        let name = path.file_stem()?.to_string_lossy().into_owned();
        let bytes = path.metadata().ok()?.len();
        Some(Checkpoint { name, bytes, notes: notes(&path).unwrap_or_default() })
    };
    files(&run.join("checkpoints"), "safetensors").into_iter().filter_map(read).collect()
}

/// The notes in the header of a safetensors file: its first eight bytes are the length of a JSON
/// object, whose `__metadata__` holds texts. That of `vqforge` is itself an object of notes.
fn notes(path: &Path) -> Option<BTreeMap<String, String>> {
    let mut file = std::fs::File::open(path).ok()?;
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let length = u64::from_le_bytes(length);
    if length > LARGEST_HEADER {
        return None;
    }
    let mut header = vec![];
    file.take(length).read_to_end(&mut header).ok()?;
    let header: Value = serde_json::from_slice(&header).ok()?;
    let own: Value = serde_json::from_str(header["__metadata__"]["vqforge"].as_str()?).ok()?;
    let notes = own.as_object()?.iter();
    Some(notes.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_string()))).collect())
}

/// The latest picture of every kind: `KIND_STEP.png` or `KIND.png`, by name.
pub fn pictures(run: &Path) -> Vec<(String, Option<u64>, PathBuf)> {
    let mut latest: BTreeMap<String, (Option<u64>, PathBuf)> = BTreeMap::new();
    let dataset = Some(run.join("dataset.png")).filter(|p| p.is_file());
    for path in files(&run.join("samples"), "png").into_iter().chain(dataset) {
        let Some(stem) = path.file_stem().map(|s| s.to_string_lossy().into_owned()) else {
            continue;
        };
        let numbered = stem.rsplit_once('_').and_then(|(k, n)| Some((k, n.parse::<u64>().ok()?)));
        let (kind, step) = match numbered {
            Some((kind, step)) => (kind.to_string(), Some(step)),
            None => (stem, None),
        };
        // Larger numbers replace smaller ones, a number none.
        if latest.get(&kind).is_none_or(|(known, _)| *known < step) {
            latest.insert(kind, (step, path));
        }
    }
    latest.into_iter().map(|(kind, (step, path))| (kind, step, path)).collect()
}

/// A picture for a report; None if it cannot be read or is too large.
pub fn picture(path: &Path, caption: String) -> Option<Picture> {
    if path.metadata().ok()?.len() > LARGEST_PICTURE {
        return None;
    }
    Some(Picture { caption, png: std::fs::read(path).ok()? })
}

/// The visible files of a folder with an extension, by name.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return vec![] };
    let wanted = |path: &PathBuf| {
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        !hidden && path.extension().is_some_and(|e| e == extension)
    };
    let mut found: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(wanted).collect();
    found.sort();
    found
}

/// Lines of the log that warn of something, each once.
pub fn warnings(run: &Path) -> Vec<String> {
    let log = text(run, "run.log").unwrap_or_default();
    let mut seen: Vec<&str> = vec![];
    for line in log.lines() {
        let low = line.to_lowercase();
        // Whole words: `standard_error` is a metric.
        let mut words = low.split(|c: char| !c.is_alphanumeric() && c != '_');
        let warns = words.any(|w| ["warning", "error", "panic", "panicked"].contains(&w));
        if warns && !seen.contains(&line) {
            seen.push(line);
        }
    }
    seen.into_iter().map(String::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::Scratch;

    #[test]
    fn the_latest_of_every_kind() {
        let dir = Scratch::new("report-pictures");
        for name in ["recon_00009.png", "recon_00100.png", "gen_00002.png", "codes_usage.png"] {
            dir.file(&format!("samples/{name}"), b"x");
        }
        dir.file("samples/.recon_99999.png", b"half");
        dir.file("dataset.png", b"x");
        let found = pictures(&dir.path(""));
        let names: Vec<(&str, Option<u64>)> = found.iter().map(|p| (p.0.as_str(), p.1)).collect();
        let want =
            [("codes_usage", None), ("dataset", None), ("gen", Some(2)), ("recon", Some(100))];
        assert_eq!(names, want);
        assert!(pictures(&dir.path("none")).is_empty());
    }

    #[test]
    fn headers_settings_and_warnings() {
        let dir = Scratch::new("report-facts");
        let header =
            br#"{"__metadata__":{"vqforge":"{\"kind\":\"vqvae\",\"step\":\"13\"}"},"x":{}}"#;
        let whole = [&(header.len() as u64).to_le_bytes()[..], header, b"data"].concat();
        dir.file("checkpoints/last.safetensors", &whole);
        dir.file("checkpoints/step_9.safetensors", b"\xff\xff\xff\xff\xff\xff\xff\xffno");
        let found = checkpoints(&dir.path(""));
        assert_eq!(found[0].notes["step"], "13");
        assert_eq!((found[1].name.as_str(), found[1].notes.len()), ("step_9", 0));
        dir.file(
            "config.toml",
            b"name = \"a\"\n[train]\nsteps = 12\nbetas = [0.9, 0.99]\nodd = []\n",
        );
        let config = config(&dir.path(""));
        assert_eq!(integer(&config, "train.steps"), Some(12));
        assert_eq!(setting(&config, "train.betas").as_deref(), Some("0.9, 0.99"));
        for none in ["train", "train.odd", "train.steps.x", "no.thing", ""] {
            assert_eq!(setting(&config, none), None, "{none}");
        }
        dir.file("run.log", b"step 1\nwarning: a\nwarning: a\nerror: b\nstandard_error 3\n");
        assert_eq!(warnings(&dir.path("")), ["warning: a", "error: b"]);
    }
}
