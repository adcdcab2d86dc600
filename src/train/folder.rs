//! The run folder: `runs/<name>[-N]/` with everything a run leaves behind.

use super::Console;
use crate::config::Config;
use crate::data::atomic::write_atomically;
use crate::error::{Error, Result};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

/// An open run folder, locked against a second process.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    metrics: File,
    /// Held for as long as the run lives.
    _lock: File,
}

/// # Errors
/// A run name that is no plain file name.
pub fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let dots = name.chars().all(|c| c == '.');
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) || dots {
        return Err(Error::usage(format!("{name:?} cannot name a run"))
            .why("a name has 1 to 64 letters, digits, '.', '_' or '-'"));
    }
    Ok(())
}

impl RunFolder {
    /// A new folder: `out` if given, else `runs/<name>`, else `runs/<name>-2` and so on. An existing
    /// folder is never written over.
    pub fn create(out: Option<&Path>, name: &str) -> Result<Self> {
        let path = match out {
            Some(path) => {
                if path.exists() && !is_empty(path) {
                    return Err(Error::usage("the run folder exists and is not empty")
                        .at_path(path)
                        .help("choose another --out, or continue the run with --resume"));
                }
                path.to_path_buf()
            }
            None => {
                check_name(name)?;
                let runs = Path::new("runs");
                let numbered = |i: u32| match i {
                    1 => runs.join(name),
                    _ => runs.join(format!("{name}-{i}")),
                };
                (1..).map(numbered).find(|p| !p.exists()).unwrap_or_else(|| runs.join(name))
            }
        };
        for sub in ["checkpoints", "samples"] {
            let folder = path.join(sub);
            std::fs::create_dir_all(&folder)
                .map_err(|e| Error::disk("cannot create the run folder").at_path(&folder).why(e))?;
        }
        Self::lock(path)
    }

    /// The folder `out` if it is there, else a new one: for starting again where a killed process
    /// left a folder without a checkpoint.
    pub fn reuse(out: Option<&Path>, name: &str) -> Result<Self> {
        match out {
            Some(path) if path.join("config.toml").is_file() => Self::open(path),
            _ => Self::create(out, name),
        }
    }

    /// An existing run, to be continued.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.join("config.toml").is_file() {
            return Err(Error::usage("there is no run here")
                .at_path(path)
                .why("a run folder holds a config.toml"));
        }
        Self::lock(path.to_path_buf())
    }

    fn lock(path: PathBuf) -> Result<Self> {
        let bad =
            |e: std::io::Error| Error::disk("cannot open the run folder").at_path(&path).why(e);
        let file = path.join("lock");
        let mut options = OpenOptions::new();
        let mut lock =
            options.create(true).truncate(false).read(true).write(true).open(&file).map_err(bad)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = std::fs::read_to_string(&file).unwrap_or_default();
                return Err(Error::usage("another process is training in this folder")
                    .at_path(&path)
                    .why(format!("process {}", pid.trim()))
                    .help("wait for it, or choose another --out"));
            }
            Err(TryLockError::Error(e)) => return Err(bad(e)),
        }
        lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id())).map_err(bad)?;
        let metrics = path.join("metrics.jsonl");
        let metrics = OpenOptions::new().create(true).append(true).open(metrics).map_err(bad)?;
        Ok(RunFolder { path, metrics, _lock: lock })
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
            "argv": std::env::args().collect::<Vec<_>>(),
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
        let path = self.path.join("metrics.jsonl");
        writeln!(self.metrics, "{line}")
            .map_err(|e| Error::disk("cannot write the metrics").at_path(&path).why(e))
    }

    /// Drops the metrics of steps that a resumed run will do again.
    pub fn rewind_metrics(&mut self, step: u64) -> Result<()> {
        let path = self.path.join("metrics.jsonl");
        let bad =
            |e: std::io::Error| Error::disk("cannot rewrite the metrics").at_path(&path).why(e);
        let text = std::fs::read_to_string(&path).map_err(bad)?;
        let keep = |line: &&str| {
            let value: Option<serde_json::Value> = serde_json::from_str(line).ok();
            value.and_then(|v| v["step"].as_u64()).is_some_and(|s| s <= step)
        };
        let kept: String = text.lines().filter(keep).map(|l| format!("{l}\n")).collect();
        write_atomically(&path, |w| w.write_all(kept.as_bytes()))?;
        self.metrics = OpenOptions::new().append(true).open(&path).map_err(bad)?;
        Ok(())
    }
}

fn is_empty(path: &Path) -> bool {
    std::fs::read_dir(path).is_ok_and(|mut d| d.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["radar", "a-b_c.1"] {
            check_name(good).unwrap();
        }
        for bad in ["", "..", "a/b", "c:d", "e f", &"x".repeat(65)] {
            assert_eq!(check_name(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }
}
