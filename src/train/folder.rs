//! The run folder: `runs/<name>[-N]/` with everything a run leaves behind.

use super::Console;
use super::events::Events;
use crate::config::Config;
use crate::data::atomic::write_atomically;
use crate::error::{Error, Result};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

pub const CHECKPOINTS: &str = "checkpoints";
pub const SAMPLES: &str = "samples";
const METRICS: &str = "metrics.jsonl";
const LOCK: &str = "lock";

/// An open run folder, locked against a second process.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    metrics: File,
    /// The step up to which a continued run keeps the lines that are there, and its own so far.
    rewound: Option<(u64, String)>,
    events: Events,
    /// The checkpoints are of an attempt that was given up.
    abandoned: bool,
    /// Held for as long as the run lives.
    _lock: File,
}

/// Where the process that holds the lock says who it is. Not in the lock itself: Windows lets nobody
/// read a locked file.
const HOLDER: &str = "lock.pid";

impl RunFolder {
    /// Where a new run would go: `out` if given, else `runs/<name>`, else `runs/<name>-2` and so on.
    /// Nothing is created.
    ///
    /// # Errors
    /// `out` is there and not empty: a run is never written over. With who is training in it.
    pub fn vacant(out: Option<&Path>, name: &str) -> Result<PathBuf> {
        let Some(path) = out else {
            let runs = Path::new("runs");
            let numbered = |i: u32| match i {
                1 => runs.join(name),
                _ => runs.join(format!("{name}-{i}")),
            };
            return Ok((1..)
                .map(numbered)
                .find(|p| !p.exists())
                .unwrap_or_else(|| runs.join(name)));
        };
        if path.exists() && !path.is_dir() {
            return Err(Error::usage("the run folder is a file")
                .at_path(path)
                .help("another --out"));
        }
        if path.exists() && !is_empty(path) {
            if path.join(LOCK).exists() {
                lock(path)?;
            }
            return Err(Error::usage("the run folder exists and is not empty")
                .at_path(path)
                .help("choose another --out, or continue the run with --resume"));
        }
        Ok(path.to_path_buf())
    }

    /// A new folder, at [`vacant`](Self::vacant).
    pub fn create(out: Option<&Path>, name: &str) -> Result<Self> {
        let path = Self::vacant(out, name)?;
        for sub in [CHECKPOINTS, SAMPLES] {
            let folder = path.join(sub);
            std::fs::create_dir_all(&folder)
                .map_err(|e| Error::disk("cannot create the run folder").at_path(&folder).why(e))?;
        }
        Self::enter(path)
    }

    /// An existing run, to be continued.
    pub fn open(path: &Path) -> Result<Self> {
        if !Self::is_run(path) {
            return Err(Error::usage("there is no run here")
                .at_path(path)
                .why("a run folder holds a config.toml and checkpoints"));
        }
        Self::enter(path.to_path_buf())
    }

    /// Did a run start in this folder?
    pub fn is_run(path: &Path) -> bool {
        path.join(CHECKPOINTS).is_dir()
    }

    fn enter(path: PathBuf) -> Result<Self> {
        let bad =
            |e: std::io::Error| Error::disk("cannot open the run folder").at_path(&path).why(e);
        let lock = lock(&path)?;
        std::fs::write(path.join(HOLDER), std::process::id().to_string()).map_err(bad)?;
        remove_leftovers(&path);
        let metrics = path.join(METRICS);
        let metrics = OpenOptions::new().create(true).append(true).open(metrics).map_err(bad)?;
        Ok(RunFolder {
            path,
            metrics,
            rewound: None,
            events: Events::default(),
            abandoned: false,
            _lock: lock,
        })
    }

    /// The run begins anew: gives up what was done in the folder so far. Pictures go at once, metrics and
    /// checkpoints when there is something to take their place, so that until then the run can be
    /// continued from them.
    pub fn begin_anew(&mut self) -> Result<()> {
        self.remove(SAMPLES, "png")?;
        self.abandoned = true;
        self.rewind_metrics(0)
    }

    /// Before a checkpoint is written: removes those of an attempt that was given up.
    pub fn forget_abandoned(&mut self) -> Result<()> {
        match std::mem::take(&mut self.abandoned) {
            true => self.remove(CHECKPOINTS, "safetensors"),
            false => Ok(()),
        }
    }

    fn remove(&self, folder: &str, end: &str) -> Result<()> {
        let folder = self.file(folder);
        let bad = |e: std::io::Error| {
            Error::disk("what an abandoned attempt left cannot be removed").at_path(&folder).why(e)
        };
        for entry in folder.read_dir().map_err(bad)? {
            let path = entry.map_err(bad)?.path();
            if path.extension().is_some_and(|e| e == end) {
                std::fs::remove_file(path).map_err(bad)?;
            }
        }
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes the resolved settings and the circumstances, and lets the console log here.
    pub fn describe(&self, config: &Config, device: &str, console: &mut Console) -> Result<()> {
        let text = config.to_toml()?;
        write_atomically(&self.file("config.toml"), |w| w.write_all(text.as_bytes()))?;
        let env = serde_json::json!({
            "vqforge": env!("CARGO_PKG_VERSION"),
            "device": device,
            "os": std::env::consts::OS,
            "arch": std::env::consts::ARCH,
            "argv": std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect::<Vec<_>>(),
        });
        write_atomically(&self.file("env.json"), |w| writeln!(w, "{env:#}"))?;
        self.attach(console)
    }

    /// Lets the console log into the folder's run.log.
    pub fn attach(&self, console: &mut Console) -> Result<()> {
        let path = self.file("run.log");
        let log = OpenOptions::new().create(true).append(true).open(&path);
        console.log_to(log.map_err(|e| Error::disk("cannot write the log").at_path(&path).why(e))?);
        Ok(())
    }

    /// Appends one line to metrics.jsonl.
    pub fn metric(&mut self, line: &serde_json::Value) -> Result<()> {
        self.events.record(&self.path, line)?;
        if let Some((_, waiting)) = &mut self.rewound {
            // Writing to a String cannot fail.
            let _ = writeln!(waiting, "{line}");
            return Ok(());
        }
        writeln!(self.metrics, "{line}").map_err(|e| self.bad_metrics(e))
    }

    /// Makes the metrics durable: a checkpoint must not outlive the numbers that led to it.
    pub fn sync_metrics(&mut self) -> Result<()> {
        self.events.flush()?;
        let Some((step, waiting)) = self.rewound.take() else {
            return self.metrics.sync_data().map_err(|e| self.bad_metrics(e));
        };
        let (_, kept) = self.metrics_until(step)?;
        let path = self.path.join(METRICS);
        write_atomically(&path, |w| write!(w, "{kept}{waiting}"))?;
        self.metrics =
            OpenOptions::new().append(true).open(&path).map_err(|e| self.bad_metrics(e))?;
        Ok(())
    }

    /// Tells TensorBoard the pictures that were made of a step.
    pub fn pictured(&mut self, step: u64) -> Result<()> {
        self.events.pictures(&self.path, &self.path.join(SAMPLES), step)
    }

    /// Drops the metrics of steps that a resumed run will do again: at the next
    /// [`sync_metrics`](Self::sync_metrics), for until its first checkpoint the run may still be
    /// continued from a later one. Lines told in between wait in memory.
    pub fn rewind_metrics(&mut self, step: u64) -> Result<()> {
        // A run that begins anew also takes back what was told before.
        let told = || Events::any(&self.path);
        self.events.continued = (step > 0 || told()).then_some(step);
        let (all, kept) = self.metrics_until(step)?;
        self.rewound = (kept.as_bytes() != all).then(|| (step, String::new()));
        Ok(())
    }

    /// The metrics as they are, and their whole lines of no later a step than `step`.
    fn metrics_until(&self, step: u64) -> Result<(Vec<u8>, String)> {
        let bytes = std::fs::read(self.path.join(METRICS)).map_err(|e| self.bad_metrics(e))?;
        let keep = |line: &&str| {
            let value: Option<serde_json::Value> = serde_json::from_str(line).ok();
            value.and_then(|v| v["step"].as_u64()).is_some_and(|s| s <= step)
        };
        let text = String::from_utf8_lossy(&bytes);
        let kept = text.lines().filter(keep).map(|l| format!("{l}\n")).collect();
        Ok((bytes, kept))
    }

    fn bad_metrics(&self, e: std::io::Error) -> Error {
        Error::disk("cannot write the metrics").at_path(&self.path.join(METRICS)).why(e)
    }
}

fn is_empty(path: &Path) -> bool {
    std::fs::read_dir(path).is_ok_and(|mut d| d.next().is_none())
}

/// Takes the lock of a run folder; it falls with the file, however the process ends.
///
/// # Errors
/// Another process holds it.
fn lock(path: &Path) -> Result<File> {
    let file = path.join(LOCK);
    let bad = |e: std::io::Error| Error::disk("cannot lock the run folder").at_path(path).why(e);
    let mut options = OpenOptions::new();
    let lock = options.create(true).truncate(false).write(true).open(&file).map_err(bad)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            let holder = std::fs::read_to_string(path.join(HOLDER)).unwrap_or_default();
            Err(Error::usage("another process is training in this folder")
                .at_path(path)
                .why(format!("process {}", holder.trim()))
                .help("wait for it, or choose another --out"))
        }
        Err(TryLockError::Error(e)) => Err(bad(e)),
    }
}

/// Removes half-written files of a killed process, which only the holder of the lock may do.
fn remove_leftovers(path: &Path) {
    for folder in [path.to_path_buf(), path.join(CHECKPOINTS), path.join(SAMPLES)] {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            let file = entry.path();
            if hidden && file.extension() == Some(OsStr::new("tmp")) {
                // A leftover that cannot be removed only costs space.
                let _ = std::fs::remove_file(file);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::Scratch;

    #[test]
    fn a_folder_has_one_holder_and_no_leftovers() {
        let dir = Scratch::new("run-folder");
        let path = dir.path("run");
        let first = RunFolder::create(Some(&path), "x").unwrap();
        for second in [RunFolder::open(&path), RunFolder::create(Some(&path), "x")] {
            let error = second.unwrap_err();
            assert_eq!(error.exit_code(), 2);
            let pid = format!("process {}", std::process::id());
            assert!(error.to_string().contains(&pid), "{error}");
        }
        drop(first);
        let error = RunFolder::create(Some(&path), "x").unwrap_err().to_string();
        assert!(error.contains("not empty"), "{error}");
        let leftover = path.join("checkpoints").join(".last.safetensors.1-0.tmp");
        std::fs::write(&leftover, "half").unwrap();
        RunFolder::open(&path).unwrap();
        assert!(!leftover.exists());
    }

    #[test]
    fn a_run_that_begins_anew_takes_back_what_it_told() {
        let dir = Scratch::new("anew");
        let path = dir.path("run");
        let mut run = RunFolder::create(Some(&path), "x").unwrap();
        run.begin_anew().unwrap();
        assert_eq!(run.events.continued, None, "nothing was told before");
        run.metric(&serde_json::json!({ "step": 1, "loss": 1 })).unwrap();
        drop(run);
        let mut run = RunFolder::open(&path).unwrap();
        let [checkpoint, picture] =
            ["checkpoints/last.safetensors", "samples/recon_00001.png"].map(|f| path.join(f));
        [&checkpoint, &picture].iter().for_each(|file| std::fs::write(file, "old").unwrap());
        run.forget_abandoned().unwrap();
        assert!(checkpoint.exists() && picture.exists(), "the run was not given up");
        run.begin_anew().unwrap();
        assert_eq!(run.events.continued, Some(0));
        assert!(checkpoint.exists() && !picture.exists());
        run.forget_abandoned().unwrap();
        assert!(!checkpoint.exists());
    }

    #[test]
    fn rewinding_keeps_whole_lines_up_to_the_step() {
        let dir = Scratch::new("rewind");
        let path = dir.path("run");
        let mut run = RunFolder::create(Some(&path), "x").unwrap();
        let before = "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"step\":4}\n{\"st";
        std::fs::write(path.join(METRICS), before).unwrap();
        let text = || std::fs::read_to_string(path.join(METRICS)).unwrap();
        run.rewind_metrics(2).unwrap();
        run.metric(&serde_json::json!({ "step": 3, "loss": 1 })).unwrap();
        assert_eq!(text(), before, "nothing is dropped before there is something to keep");
        run.sync_metrics().unwrap();
        run.metric(&serde_json::json!({ "step": 4 })).unwrap();
        let after = "{\"step\":1}\n{\"step\":2}\n{\"loss\":1,\"step\":3}\n{\"step\":4}\n";
        assert_eq!(text(), after);
        // Nothing to drop: lines appear at once.
        run.rewind_metrics(4).unwrap();
        run.metric(&serde_json::json!({ "step": 5 })).unwrap();
        assert_eq!(text(), format!("{after}{{\"step\":5}}\n"));
    }
}
