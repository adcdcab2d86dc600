//! The training loop, the same for every job: feed lanes, replay, log, evaluate, save, stop.

use super::checkpoint::{BEST, LAST, PREVIOUS, Snapshot};
use super::{Console, RunFolder, step_scalars, stop};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::plan::{Plan, RING_ROWS, Store};
use std::path::Path;
use std::time::{Duration, Instant};

/// Steps in a row whose gradient was not finite before a run gives up.
const MAX_SKIPPED: usize = 10;

/// Named numbers, in the order to show them.
pub type Numbers = Vec<(String, f64)>;

/// What is particular to a model.
pub trait Job {
    /// "vqvae" or "diffusion": stored in checkpoints.
    fn kind(&self) -> &'static str;
    /// Further entries of a checkpoint's metadata.
    fn meta(&self) -> Vec<(String, String)> {
        vec![]
    }
    /// Before the first step of a fresh run.
    fn start(&mut self, _session: &mut Session, _console: &mut Console) -> Result<()> {
        Ok(())
    }
    /// Writes the inputs of one lane.
    fn feed(&mut self, store: &mut Store, plan: &Plan, step: u64, lane: usize) -> Result<()>;
    /// After a step: what is not part of the plan (dead codes).
    fn after(&mut self, _store: &mut Store, _plan: &Plan, _step: u64) -> Result<()> {
        Ok(())
    }
    /// The loss that the scalars of a step make up.
    fn loss(&self, scalars: &[(String, f32)]) -> f64;
    /// Metrics on held-out data.
    fn evaluate(&mut self, store: &mut Store) -> Result<Numbers>;
    /// The metric that names the best checkpoint, and whether more is better.
    fn best(&self) -> (&'static str, bool);
    /// Writes pictures into the folder.
    fn pictures(&mut self, store: &mut Store, folder: &Path, step: u64) -> Result<()>;
}

/// A run under way.
#[derive(Debug)]
pub struct Session {
    pub store: Store,
    pub plan: Plan,
    pub config: Config,
    /// None: nothing is written (dry runs, embedded use).
    pub folder: Option<RunFolder>,
    /// Steps done.
    pub step: u64,
    best: Option<f64>,
    skipped: usize,
}

/// How [`Session::run`] ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    pub steps: u64,
    pub loss: f64,
    pub metrics: Numbers,
}

impl Session {
    pub fn new(store: Store, plan: Plan, config: Config, folder: Option<RunFolder>) -> Self {
        Session { store, plan, config, folder, step: 0, best: None, skipped: 0 }
    }

    /// Continues from a checkpoint.
    pub fn restore(&mut self, snapshot: &Snapshot, kind: &str) -> Result<()> {
        if snapshot.meta("kind")? != kind {
            let what = snapshot.meta("kind")?;
            return Err(Error::disk(format!("the checkpoint is of a {what} run, not {kind}")));
        }
        snapshot.restore(&mut self.store)?;
        self.step = snapshot.step()?;
        self.best = snapshot.meta.get("best").and_then(|b| b.parse().ok());
        if let Some(folder) = &mut self.folder {
            folder.rewind_metrics(self.step)?;
        }
        Ok(())
    }

    /// One step: every lane fed and replayed.
    pub fn advance(&mut self, job: &mut dyn Job) -> Result<()> {
        for lane in 0..self.plan.lanes() {
            job.feed(&mut self.store, &self.plan, self.step, lane)?;
            let scalars = step_scalars(&self.config.train, self.step, lane, RING_ROWS);
            self.plan.run_lane(&mut self.store, lane, &scalars)?;
        }
        job.after(&mut self.store, &self.plan, self.step)?;
        self.step += 1;
        Ok(())
    }

    /// Runs to `config.train.steps`.
    ///
    /// # Errors
    /// Ctrl-C (after saving), divergence, a lost device, a full disk.
    pub fn run(&mut self, job: &mut dyn Job, console: &mut Console) -> Result<Finished> {
        let train = self.config.train.clone();
        if self.step == 0 {
            job.start(self, console)?;
        }
        let started = Instant::now();
        let first = self.step;
        let mut logged = self.step;
        let mut saved = Instant::now();
        let every = Duration::from_secs(self.config.checkpoint.every);
        let mut loss = f64::NAN;
        let mut numbers: Numbers = vec![];
        while self.step < train.steps {
            self.advance(job)?;
            let step = self.step;
            let due = |every: u64| every > 0 && step.is_multiple_of(every);
            let last = self.step == train.steps;
            let stopping = stop::requested();
            let full = self.step - logged >= RING_ROWS as u64;
            if self.step == first + 1 || due(train.log_every) || last || full || stopping {
                loss = self.log(job, logged, started, first)?;
                logged = self.step;
                console.progress(&self.line(loss, &numbers, started, first));
            }
            if last || due(train.eval_every) {
                numbers = self.evaluate(job, console)?;
            }
            if last || due(train.sample_every) {
                if let Some(folder) = &self.folder {
                    let path = folder.file("samples");
                    job.pictures(&mut self.store, &path, self.step)?;
                }
            }
            if last || stopping || saved.elapsed() >= every {
                self.save(job)?;
                saved = Instant::now();
            }
            if stopping && !last {
                return Err(self.interrupted());
            }
        }
        console.progress(&self.line(loss, &numbers, started, first));
        Ok(Finished { steps: self.step, loss, metrics: numbers })
    }

    fn interrupted(&self) -> Error {
        let error = Error::new(Kind::Interrupted, format!("stopped after step {}", self.step));
        match &self.folder {
            Some(f) => error.help(format!("continue with --resume {}", f.path().display())),
            None => error,
        }
    }

    /// Reads the scalars of the steps since `from`, writes them down, returns the last loss.
    fn log(&mut self, job: &dyn Job, from: u64, started: Instant, first: u64) -> Result<f64> {
        let rows = self.plan.read_ring(&mut self.store, from..self.step)?;
        let lanes = self.plan.lanes() as f32;
        let mut loss = f64::NAN;
        for (i, mut row) in rows.into_iter().enumerate() {
            let step = from + i as u64 + 1;
            row.scalars.iter_mut().for_each(|(_, v)| *v /= lanes);
            loss = job.loss(&row.scalars);
            let [norm, applied, _, _] = row.control;
            self.skipped = if applied == 0.0 { self.skipped + 1 } else { 0 };
            let mut line = serde_json::json!({ "step": step, "loss": loss, "grad_norm": norm });
            for (name, value) in &row.scalars {
                line[name] = serde_json::json!(value);
            }
            if step == self.step {
                let images = (self.step - first) as f64 * self.config.train.batch as f64;
                line["seconds"] = serde_json::json!(started.elapsed().as_secs_f64());
                line["images_per_second"] =
                    serde_json::json!(images / started.elapsed().as_secs_f64());
            }
            if applied == 0.0 {
                line["skipped"] = serde_json::json!(true);
            }
            if let Some(folder) = &mut self.folder {
                folder.metric(&line)?;
            }
            if self.skipped >= MAX_SKIPPED {
                return Err(Error::diverged(format!(
                    "the gradient was not finite for {MAX_SKIPPED} steps, up to step {step}"
                ))
                .why(format!("loss {loss}"))
                .help("lower train.lr or train.clip; the last checkpoint is good"));
            }
        }
        Ok(loss)
    }

    fn evaluate(&mut self, job: &mut dyn Job, console: &mut Console) -> Result<Numbers> {
        let numbers = job.evaluate(&mut self.store)?;
        let text: Vec<_> = numbers.iter().map(|(n, v)| format!("{n} {}", short(*v))).collect();
        console.line(&format!("step {:6}  held out: {}", self.step, text.join("  ")));
        let mut line = serde_json::json!({ "step": self.step });
        for (name, value) in &numbers {
            line["eval"][name] = serde_json::json!(value);
        }
        if let Some(folder) = &mut self.folder {
            folder.metric(&line)?;
        }
        let (name, more) = job.best();
        let now = numbers.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
        if let Some(now) = now {
            let better = self.best.is_none_or(|b| if more { now > b } else { now < b });
            if better && now.is_finite() {
                self.best = Some(now);
                if let Some(path) = self.folder.as_ref().map(|f| f.file("checkpoints").join(BEST)) {
                    self.snapshot(job)?.save(&path)?;
                }
            }
        }
        Ok(numbers)
    }

    fn snapshot(&mut self, job: &dyn Job) -> Result<Snapshot> {
        let mut snapshot = Snapshot::capture(&mut self.store)?;
        snapshot.meta.insert("kind".into(), job.kind().into());
        snapshot.meta.insert("step".into(), self.step.to_string());
        snapshot.meta.insert("config".into(), self.config.to_toml()?);
        snapshot.meta.extend(job.meta());
        if let Some(best) = self.best {
            snapshot.meta.insert("best".into(), best.to_string());
        }
        Ok(snapshot)
    }

    /// Writes `last`; the one before stays as `previous`.
    pub fn save(&mut self, job: &dyn Job) -> Result<()> {
        let Some(path) = self.folder.as_ref().map(|f| f.file("checkpoints")) else {
            return Ok(());
        };
        let snapshot = self.snapshot(job)?;
        let last = path.join(LAST);
        if last.exists() {
            let previous = path.join(PREVIOUS);
            std::fs::rename(&last, &previous)
                .map_err(|e| Error::disk("cannot rotate checkpoints").at_path(&previous).why(e))?;
        }
        snapshot.save(&last)
    }

    fn line(&self, loss: f64, numbers: &Numbers, started: Instant, first: u64) -> String {
        let total = self.config.train.steps;
        let done = self.step - first;
        let seconds = started.elapsed().as_secs_f64();
        let rate = done as f64 * self.config.train.batch as f64 / seconds.max(1e-9);
        let left = (total - self.step) as f64 * seconds / done.max(1) as f64;
        let filled = (self.step * 16 / total.max(1)) as usize;
        let bar: String = (0..16).map(|i| if i < filled { '#' } else { ' ' }).collect();
        let extra: Vec<_> =
            numbers.iter().take(3).map(|(n, v)| format!("{n} {}", short(*v))).collect();
        format!(
            "step {}/{total} [{bar}] {rate:.0} img/s  loss {}  {}  ETA {}",
            self.step,
            short(loss),
            extra.join("  "),
            clock(left)
        )
    }
}

/// Four significant digits.
fn short(v: f64) -> String {
    match v.abs() {
        a if a >= 1000.0 || v == v.trunc() => format!("{v:.0}"),
        a if a >= 10.0 => format!("{v:.2}"),
        a if a >= 0.1 => format!("{v:.4}"),
        _ => format!("{v:.3e}"),
    }
}

fn clock(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        _ => format!("{}h{:02}m", s / 3600, s % 3600 / 60),
    }
}
