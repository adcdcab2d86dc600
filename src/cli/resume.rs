//! What `vqforge train` begins with: a new run, a run to continue, or the folder of one that was killed
//! before its first checkpoint.

use super::train::Common;
use std::path::{Path, PathBuf};
use vqforge::config::Config;
use vqforge::device::tuner::Table;
use vqforge::error::{Error, Result};
use vqforge::train::checkpoint::{BEST, LAST, PREVIOUS, step_name};
use vqforge::train::folder::CHECKPOINTS;
use vqforge::train::{Console, RunFolder, Snapshot, choices, resume};

/// What a run begins with.
pub struct Start {
    pub config: Config,
    pub data: String,
    pub snapshot: Option<Snapshot>,
    /// The folder of the run that is continued; none in a dry run.
    pub folder: Option<RunFolder>,
    /// Where it is, in a dry run, too.
    pub run: Option<PathBuf>,
    /// Its choices of kernels, if it has a checkpoint that was made with them.
    pub choices: Option<Table>,
}

impl Common {
    /// All changes of the settings; the command itself asks for a KL-VAE.
    fn sets(&self, kind: &str) -> Vec<String> {
        let precision = self.precision.map(|p| format!("train.precision={p}"));
        let bottleneck = (kind == "klvae").then(|| "model.bottleneck=kl".into());
        bottleneck.into_iter().chain(self.sets.iter().cloned()).chain(precision).collect()
    }

    /// The run to continue, with the checkpoint to take, if there is one.
    fn resumed(&self, config: Option<&Config>) -> Result<Option<(PathBuf, Option<String>)>> {
        let Some(wanted) = &self.resume else { return Ok(None) };
        if wanted != "auto" {
            let plain = PathBuf::from(wanted);
            return Ok(Some(match wanted.rsplit_once('@') {
                Some((run, which)) if !plain.exists() => (run.into(), Some(which.into())),
                _ => (plain, None),
            }));
        }
        let run = match (&self.out, config) {
            (Some(out), _) => out.clone(),
            (None, Some(config)) => Path::new("runs").join(&config.name),
            (None, None) => {
                return Err(Error::usage("--resume auto needs a run folder or settings")
                    .help("name the run folder: --out RUN, or --resume RUN"));
            }
        };
        let entries = run.join(CHECKPOINTS).read_dir();
        let any = entries.is_ok_and(|mut d| d.any(|f| f.is_ok_and(|f| is_checkpoint(&f.path()))));
        Ok(any.then_some((run, None)))
    }

    pub fn start(&self, kind: &str, console: &mut Console) -> Result<Start> {
        let given =
            self.config.as_ref().map(|p| Config::load(Some(p), &self.sets(kind))).transpose()?;
        if let Some((run, which)) = self.resumed(given.as_ref())? {
            return self.go_on(kind, &run, which.as_deref(), given, console);
        }
        let config = given.ok_or_else(|| {
            Error::usage("no settings were given")
                .help("name a TOML file, for example configs/radar_vqvae.toml")
        })?;
        let data = self.data.clone().ok_or_else(|| {
            Error::usage("no data were given")
                .help("--data FILE.npz, a folder of PNG images, or --data synth:rotor to try")
        })?;
        let folder = match self.abandoned(&config) {
            Some(path) if !self.dry_run => Some(RunFolder::open(&path)?),
            _ => None,
        };
        if folder.is_none() && !self.dry_run {
            // Said now rather than after the preparations.
            RunFolder::vacant(self.out.as_deref(), &config.name)?;
        }
        let run = folder.as_ref().map(|f| f.path().to_path_buf());
        Ok(Start { config, data, snapshot: None, folder, run, choices: None })
    }

    fn go_on(
        &self,
        kind: &str,
        run: &Path,
        which: Option<&str>,
        given: Option<Config>,
        console: &mut Console,
    ) -> Result<Start> {
        if self.out.as_ref().is_some_and(|out| out != run) {
            return Err(Error::usage("--out and --resume name different folders")
                .help("a resumed run goes on in its own folder: leave --out away"));
        }
        let folder = if self.dry_run { None } else { Some(RunFolder::open(run)?) };
        let (snapshot, path) = match which {
            None => {
                let (snapshot, path, damaged) = Snapshot::load_last(run)?;
                if let Some(e) = damaged {
                    console.line(&format!("warning: {e}"));
                }
                (snapshot, path)
            }
            Some(which) => {
                let path = run.join(CHECKPOINTS).join(checkpoint_name(which)?);
                if !path.exists() {
                    return Err(Error::usage(format!("the run has no checkpoint {which}"))
                        .at_path(run)
                        .help(format!("use one of: {}", names(run).join(", "))));
                }
                (Snapshot::load(&path)?, path)
            }
        };
        let trained = snapshot.meta("kind")?;
        if trained != kind {
            return Err(Error::usage(format!("this is a {trained} run, not {kind}"))
                .at_path(run)
                .help(format!("use: vqforge train {trained}")));
        }
        console.line(&format!("resuming {} at step {}", path.display(), snapshot.step()?));
        let text = snapshot.meta("config")?;
        let mut old = Config::parse("checkpoint", text, &[])?;
        let mut config = match given {
            Some(config) => config,
            None => Config::parse("checkpoint", text, &self.sets(kind))?,
        };
        resume::settle(kind, &mut old, &mut config);
        for line in resume::differences(kind, &old, &config)? {
            console.line(&line);
        }
        let data = match &self.data {
            Some(data) => data.clone(),
            // An imported model has seen none here.
            None => {
                let known = snapshot.meta("data").map_err(|e| e.help("name them: --data PATH"));
                known?.to_string()
            }
        };
        if self.device.tune.is_some() {
            console.line("--tune is for new runs: the run's own choices are used");
        }
        Ok(Start {
            config,
            data,
            snapshot: Some(snapshot),
            folder,
            run: Some(run.into()),
            choices: Some(choices::of_run(run)?),
        })
    }

    /// The folder that `--resume auto` finds of a process killed before its first checkpoint.
    fn abandoned(&self, config: &Config) -> Option<PathBuf> {
        let out = self.out.clone().unwrap_or_else(|| Path::new("runs").join(&config.name));
        (self.resume.is_some() && RunFolder::is_run(&out)).then_some(out)
    }
}

fn is_checkpoint(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "safetensors")
}

/// The checkpoints of a run, as they are called after the @.
fn names(run: &Path) -> Vec<String> {
    let entries = run.join(CHECKPOINTS).read_dir().into_iter().flatten().flatten();
    let paths = entries.map(|e| e.path()).filter(|p| is_checkpoint(p));
    let mut names: Vec<_> =
        paths.filter_map(|p| Some(p.file_stem()?.to_string_lossy().into_owned())).collect();
    names.sort();
    names
}

/// The file of RUN@NAME.
fn checkpoint_name(which: &str) -> Result<String> {
    let step = which.strip_prefix("step_").and_then(|n| n.parse().ok());
    match (which, step) {
        ("best", _) => Ok(BEST.into()),
        ("last", _) => Ok(LAST.into()),
        ("previous", _) => Ok(PREVIOUS.into()),
        (_, Some(step)) => Ok(step_name(step)),
        _ => Err(Error::usage(format!("no checkpoint is called {which}"))
            .help("use RUN, RUN@best or RUN@step_N")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_checkpoints() {
        assert_eq!(checkpoint_name("best").unwrap(), "best.safetensors");
        assert_eq!(checkpoint_name("step_500").unwrap(), "step_500.safetensors");
        for bad in ["", "../best", "step_", "step_x"] {
            assert_eq!(checkpoint_name(bad).unwrap_err().exit_code(), 2);
        }
    }
}
