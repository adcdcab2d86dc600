//! Checkpoints: everything a run needs to go on bit for bit, in one safetensors file.
//!
//! Tensors `param.*`, `m.*`, `v.*`, `ema.*` (the parameters, Adam's moments and the average) and
//! `state.*` (the codebook and its moving averages, control words), all f32. Batches and random
//! numbers are pure functions of the seed and the step, so the step is all the rest there is to
//! save. The metadata carries a BLAKE3 hash of everything; a file is replaced atomically.

use super::folder::CHECKPOINTS;
use crate::data::atomic::write_atomically_after;
use crate::error::{Error, Result};
use crate::plan::{Kind, Store};
use crate::tape::{GOOD_STEPS, LOSS_SCALE};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};

const FORMAT: &str = "vqforge-1";
/// Larger headers are refused before they are parsed.
const MAX_HEADER: u64 = 10 << 20;

#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

/// The contents of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    pub meta: BTreeMap<String, String>,
    pub tensors: BTreeMap<String, Tensor>,
}

impl Snapshot {
    /// Reads everything from the device.
    pub fn capture(store: &mut Store) -> Result<Self> {
        let mut tensors = BTreeMap::new();
        for i in 0..store.table().specs().len() {
            let (name, shape) = {
                let spec = &store.table().specs()[i];
                (spec.name.clone(), spec.shape.dims().to_vec())
            };
            for kind in Kind::SAVED {
                let data = store.read_param(kind, i)?;
                let tensor = Tensor { shape: shape.clone(), data };
                tensors.insert(format!("{}.{name}", kind.name()), tensor);
            }
        }
        let states: Vec<_> = store.states().map(|(n, r)| (n.to_string(), r)).collect();
        for (name, range) in states {
            let data = store.read_f32(range)?;
            tensors.insert(format!("state.{name}"), Tensor { shape: vec![range.len], data });
        }
        Ok(Snapshot { meta: BTreeMap::new(), tensors })
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<&Tensor> {
        let tensor = self.tensors.get(name).ok_or_else(|| {
            Error::disk(format!("the checkpoint has no {name}"))
                .help("was it written by another model? compare the [model] sections")
        })?;
        if tensor.shape != shape {
            return Err(Error::disk(format!(
                "{name} is {:?} in the checkpoint and {shape:?} in the model",
                tensor.shape
            ))
            .help("use the configuration that the run was started with"));
        }
        Ok(tensor)
    }

    /// Writes everything to the device.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape; nothing is written then.
    pub fn restore(&self, store: &mut Store) -> Result<()> {
        let specs: Vec<_> = store.table().specs().to_vec();
        for pass in ["check", "write"] {
            for (i, spec) in specs.iter().enumerate() {
                for kind in Kind::SAVED {
                    let name = format!("{}.{}", kind.name(), spec.name);
                    let tensor = self.tensor(&name, spec.shape.dims())?;
                    if pass == "write" {
                        store.write_param(kind, i, &tensor.data)?;
                    }
                }
            }
            let known: Vec<_> = store.states().map(|(n, r)| (n.to_string(), r.len)).collect();
            // A run may go on in mixed precision; the scale of the loss then starts anew.
            let unscaled = !self.tensors.contains_key(&format!("state.{LOSS_SCALE}"));
            let may_miss = |name: &str| unscaled && [LOSS_SCALE, GOOD_STEPS].contains(&name);
            for (name, len) in known.into_iter().filter(|(name, _)| !may_miss(name)) {
                self.tensor(&format!("state.{name}"), &[len])?;
            }
        }
        for (name, tensor) in &self.tensors {
            if let Some(state) = name.strip_prefix("state.") {
                let range = store.state(state, tensor.data.len())?;
                store.write_f32(range, &tensor.data)?;
            }
        }
        Ok(())
    }

    /// Does the checkpoint hold parameters that `store` does not have?
    pub fn exceeds(&self, store: &Store) -> bool {
        let unknown = |name: &String| {
            name.strip_prefix("param.").is_some_and(|p| store.table().find(p).is_none())
        };
        self.tensors.keys().any(unknown)
    }

    pub fn meta(&self, key: &str) -> Result<&str> {
        self.meta
            .get(key)
            .map(String::as_str)
            .ok_or_else(|| Error::disk(format!("the checkpoint does not say its {key}")))
    }

    pub fn step(&self) -> Result<u64> {
        self.meta("step")?
            .parse()
            .map_err(|e| Error::disk("the checkpoint's step is no number").why(e))
    }

    /// Of everything but the entry `hash` itself.
    fn hash(&self, meta: &BTreeMap<String, String>) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut text = |t: &str| {
            hasher.update(&(t.len() as u64).to_le_bytes());
            hasher.update(t.as_bytes());
        };
        for (key, value) in meta.iter().filter(|(k, _)| *k != "hash") {
            text(key);
            text(value);
        }
        for (name, tensor) in &self.tensors {
            text(name);
            text(&format!("{:?}", tensor.shape));
        }
        for tensor in self.tensors.values() {
            hasher.update(bytemuck::cast_slice(&tensor.data));
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Writes the file: temporary name, flush to disk, rename.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.save_after(path, || Ok(()))
    }

    /// Writes `last` into a run; the one before stays as `previous`. One of the two is whole at every
    /// moment, and where the file system has hard links it is always `last`.
    pub fn rotate(&self, run: &Path) -> Result<()> {
        let [last, previous] = [LAST, PREVIOUS].map(|name| run.join(CHECKPOINTS).join(name));
        self.save_after(&last, || keep(&last, &previous))
    }

    /// Writes the file; `ready` runs when it is on disk under its temporary name.
    fn save_after(&self, path: &Path, ready: impl FnOnce() -> std::io::Result<()>) -> Result<()> {
        let mut meta = self.meta.clone();
        meta.insert("format".into(), FORMAT.into());
        let hash = self.hash(&meta);
        meta.insert("hash".into(), hash);
        let mut views = vec![];
        for (name, tensor) in &self.tensors {
            let bytes = le_bytes(&tensor.data);
            views.push((name.as_str(), tensor.shape.clone(), bytes));
        }
        let mut list = vec![];
        for (name, shape, bytes) in &views {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes)
                .map_err(|e| Error::failed(format!("cannot save {name}")).why(e))?;
            list.push((*name, view));
        }
        // One order of the metadata, so that equal checkpoints are equal files.
        let meta: HashMap<String, String> =
            HashMap::from([("vqforge".into(), serde_json::json!(meta).to_string())]);
        let bytes = safetensors::serialize(list, Some(meta))
            .map_err(|e| Error::failed("cannot serialise the checkpoint").why(e))?;
        write_atomically_after(path, |w| w.write_all(&bytes), ready).map_err(|e| {
            e.help(format!(
                "make room for {:.1} MiB there; the checkpoints written before are intact",
                bytes.len() as f64 / f64::from(1 << 20)
            ))
        })
    }

    /// # Errors
    /// Exit code 5: not there, truncated, a flipped bit, another format.
    pub fn load(path: &Path) -> Result<Self> {
        let bad = |why: String| {
            Error::disk("the checkpoint cannot be used")
                .at_path(path)
                .why(why)
                .help("resume from another one in the same folder")
        };
        let bytes = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
        let header = bytes.first_chunk().map(|b| u64::from_le_bytes(*b));
        let Some(header) = header.filter(|&n| n <= MAX_HEADER) else {
            return Err(bad("it is no safetensors file".into()));
        };
        if header + 8 > bytes.len() as u64 {
            return Err(bad(format!("it is truncated at {} bytes", bytes.len())));
        }
        let parsed = SafeTensors::deserialize(&bytes).map_err(|e| bad(e.to_string()))?;
        let (_, raw) = SafeTensors::read_metadata(&bytes).map_err(|e| bad(e.to_string()))?;
        let text = raw.metadata().as_ref().and_then(|m| m.get("vqforge"));
        let Some(text) = text else { return Err(bad("it was not written by vqforge".into())) };
        let meta: BTreeMap<String, String> =
            serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in parsed.iter() {
            if view.dtype() != Dtype::F32 {
                return Err(bad(format!("{name} is {:?}, not F32", view.dtype())));
            }
            let words = view.data().as_chunks::<4>().0;
            let data = words.iter().map(|b| f32::from_le_bytes(*b)).collect();
            tensors.insert(name.to_string(), Tensor { shape: view.shape().to_vec(), data });
        }
        let snapshot = Snapshot { meta, tensors };
        let hash = snapshot.meta.get("hash").cloned().unwrap_or_default();
        if snapshot.hash(&snapshot.meta) != hash {
            return Err(bad("its contents do not match its hash: it was damaged".into()));
        }
        match snapshot.meta.get("format").map(String::as_str) {
            Some(FORMAT) => Ok(snapshot),
            other => Err(bad(format!("its format is {other:?}, this program reads {FORMAT}"))),
        }
    }

    /// The last checkpoint of a run or, if it is damaged, the newest one that is not; with what was
    /// wrong.
    pub fn load_last(run: &Path) -> Result<(Self, PathBuf, Option<Error>)> {
        let folder = checkpoints_of(run)?;
        let mut candidates = vec![folder.join(LAST), folder.join(PREVIOUS)];
        candidates.extend(numbered(&folder).into_iter().rev().map(|(_, path)| path));
        let mut damaged = None;
        for path in candidates.into_iter().filter(|p| p.exists()) {
            match Self::load(&path) {
                Ok(snapshot) => return Ok((snapshot, path, damaged)),
                Err(e) => drop(damaged.get_or_insert(e)),
            }
        }
        Err(damaged.unwrap_or_else(|| {
            Error::disk("the run has no checkpoint yet")
                .at_path(run)
                .help("start it again: the same command with --out RUN --resume auto")
        }))
    }

    /// The best checkpoint of a run, or the last where none was the best yet.
    pub fn load_best(run: &Path) -> Result<Self> {
        let best = checkpoints_of(run)?.join(BEST);
        match best.exists() {
            true => Self::load(&best),
            false => Ok(Self::load_last(run)?.0),
        }
    }
}

pub const LAST: &str = "last.safetensors";
pub const PREVIOUS: &str = "previous.safetensors";
pub const BEST: &str = "best.safetensors";

/// The file of the numbered checkpoint of a step.
pub fn step_name(step: u64) -> String {
    format!("step_{step}.safetensors")
}

/// The numbered checkpoints in a folder, oldest first.
pub fn numbered(folder: &Path) -> Vec<(u64, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return vec![] };
    let step = |path: &Path| {
        let name = path.file_name()?.to_str()?;
        name.strip_prefix("step_")?.strip_suffix(".safetensors")?.parse().ok()
    };
    let mut found: Vec<(u64, PathBuf)> =
        entries.flatten().filter_map(|e| Some((step(&e.path())?, e.path()))).collect();
    found.sort();
    found
}

fn checkpoints_of(run: &Path) -> Result<PathBuf> {
    let folder = run.join(CHECKPOINTS);
    match folder.is_dir() {
        true => Ok(folder),
        false => Err(Error::usage("there is no run here")
            .at_path(run)
            .why("a run folder holds a folder of checkpoints")),
    }
}

/// Gives `from` a second name; where the file system has no links it is moved.
fn keep(from: &Path, to: &Path) -> std::io::Result<()> {
    if !from.exists() {
        return Ok(());
    }
    if to.exists() {
        std::fs::remove_file(to)?;
    }
    std::fs::hard_link(from, to).or_else(|_| std::fs::rename(from, to))
}

#[cfg(target_endian = "little")]
fn le_bytes(data: &[f32]) -> Cow<'_, [u8]> {
    Cow::Borrowed(bytemuck::cast_slice(data))
}

#[cfg(target_endian = "big")]
fn le_bytes(data: &[f32]) -> Cow<'_, [u8]> {
    Cow::Owned(data.iter().flat_map(|x| x.to_le_bytes()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::Scratch;
    use crate::rng::{Rng, Stream};

    fn snapshot() -> Snapshot {
        let mut s = Snapshot::default();
        s.meta.insert("step".into(), "41".into());
        s.meta.insert("config".into(), "name = \"a\"\n".into());
        for (i, name) in ["param.w", "m.w", "state.codebook"].iter().enumerate() {
            let data = (0..12).map(|k| (k as f32 - 5.5) * 10f32.powi(i as i32)).collect();
            s.tensors.insert((*name).into(), Tensor { shape: vec![3, 4], data });
        }
        s
    }

    #[test]
    fn round_trip_is_exact_and_repeatable() {
        let dir = Scratch::new("checkpoint");
        let (a, b) = (dir.path("a"), dir.path("b"));
        snapshot().save(&a).unwrap();
        snapshot().save(&b).unwrap();
        assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
        let back = Snapshot::load(&a).unwrap();
        assert_eq!(back.tensors, snapshot().tensors);
        assert_eq!(back.step().unwrap(), 41);
    }

    #[test]
    fn a_damaged_last_falls_back_to_the_newest_good_one() {
        let dir = Scratch::new("checkpoint-fallback");
        let run = dir.path("run");
        let folder = run.join(CHECKPOINTS);
        std::fs::create_dir_all(&folder).unwrap();
        assert_eq!(Snapshot::load_last(&run).unwrap_err().exit_code(), 5);
        let at = |step: u64| {
            let mut s = snapshot();
            s.meta.insert("step".into(), step.to_string());
            s
        };
        at(1).save(&folder.join(step_name(1))).unwrap();
        at(2).rotate(&run).unwrap();
        at(3).rotate(&run).unwrap();
        let steps = |name| Snapshot::load(&folder.join(name)).unwrap().step().unwrap();
        assert_eq!((steps(LAST), steps(PREVIOUS)), (3, 2));
        for (damaged, next) in [(LAST, 2), (PREVIOUS, 1)] {
            std::fs::write(folder.join(damaged), b"no checkpoint").unwrap();
            let (good, _, warning) = Snapshot::load_last(&run).unwrap();
            assert_eq!(good.step().unwrap(), next);
            assert!(warning.unwrap().to_string().contains(LAST));
        }
        let nowhere = Snapshot::load_last(&dir.path("nowhere")).unwrap_err();
        assert_eq!(nowhere.exit_code(), 2, "{nowhere}");
    }

    /// Flipped bits and truncations at random places are refused, never a panic.
    #[test]
    fn damage_is_refused() {
        let dir = Scratch::new("checkpoint-damage");
        let path = dir.path("c");
        snapshot().save(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let original = Snapshot::load(&path).unwrap();
        let mut rng = Rng::new(11, Stream::Test, 0);
        for round in 0..1000 {
            let mut bytes = whole.clone();
            if round % 2 == 0 {
                bytes.truncate(rng.below(whole.len() as u32) as usize);
            } else {
                let at = rng.below(whole.len() as u32) as usize;
                bytes[at] ^= 1 << rng.below(8);
            }
            std::fs::write(&path, &bytes).unwrap();
            match Snapshot::load(&path) {
                Err(e) => assert_eq!(e.exit_code(), 5, "{e}"),
                // A flipped bit in the header's padding changes nothing that is read.
                Ok(same) => assert_eq!(same, original),
            }
        }
    }
}
