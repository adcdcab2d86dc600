//! The training loop, the same for every job: feed lanes, replay, log, evaluate, save, stop.

use super::checkpoint::{self, BEST, Snapshot};
use super::folder::{CHECKPOINTS, SAMPLES};
use super::progress::{Progress, short};
use super::{Console, RunFolder, choices, step_scalars, stop};
use crate::config::Config;
use crate::device::tuner::{Table, Tuner};
use crate::error::{Error, Kind, Result};
use crate::kernels::grad_ctl::LossScaling;
use crate::plan::{Plan, RING_ROWS, Store};
use crate::report;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// Steps in a row whose gradient was not finite before a run gives up. In mixed precision the steps
/// that look for a scale of the loss do not count.
const MAX_SKIPPED: usize = 10;
/// The live line moves at least this often, if steps are shorter.
const SHOW_EVERY: Duration = Duration::from_secs(1);

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
    /// What the tuner chose on devices other than the session's.
    fn choices(&self) -> Table {
        Table::default()
    }
    /// Before the first step of a fresh run.
    fn start(&mut self, _session: &mut Session, _console: &mut Console) -> Result<()> {
        Ok(())
    }
    /// Writes the inputs of one lane.
    fn feed(&mut self, store: &mut Store, plan: &Plan, step: u64, lane: usize) -> Result<()>;
    /// After one lane of a step.
    fn after_lane(
        &mut self,
        _store: &mut Store,
        _plan: &Plan,
        _step: u64,
        _lane: usize,
    ) -> Result<()> {
        Ok(())
    }
    /// After a step: what is not part of the plan (dead codes).
    fn after(&mut self, _store: &mut Store, _plan: &Plan, _step: u64) -> Result<()> {
        Ok(())
    }
    /// The loss that the scalars of a step make up.
    fn loss(&self, scalars: &[(String, f32)]) -> f64;
    /// Metrics on held-out data.
    fn evaluate(&mut self, store: &mut Store) -> Result<Numbers>;
    /// What else the last evaluation told, for `metrics.jsonl`: an object, or null.
    fn details(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
    /// What the user should be told of the last evaluation.
    fn remarks(&self) -> Vec<String> {
        vec![]
    }
    /// Changes of the settings, `section.key=value`, with which the run should begin anew, after an
    /// evaluation that showed it to be lost.
    fn anew(&self) -> Option<Vec<String>> {
        None
    }
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
    /// When to stop before the last step.
    pub pause: Pause,
    /// Further entries of the checkpoints' metadata: what the caller knows of the run.
    pub notes: BTreeMap<String, String>,
    best: Option<f64>,
    /// Steps in a row, up to the last one logged, that were not applied.
    skipped: usize,
}

/// Limits of this process, not of the run.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pause {
    pub steps: Option<u64>,
    pub seconds: Option<f64>,
}

impl Pause {
    /// What is left of it after so many steps and seconds: one step at the least, so that there is
    /// something to resume.
    pub fn after(self, steps: u64, seconds: f64) -> Self {
        Pause {
            steps: self.steps.map(|most| most.saturating_sub(steps).max(1)),
            seconds: self.seconds.map(|most| (most - seconds).max(0.0)),
        }
    }
}

/// How [`Session::run`] ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    pub steps: u64,
    pub loss: f64,
    pub metrics: Numbers,
    /// The run should begin anew with these settings changed, and ended where that was seen.
    pub anew: Option<Vec<String>>,
}

impl Session {
    pub fn new(store: Store, plan: Plan, config: Config, folder: Option<RunFolder>) -> Self {
        Session {
            store,
            plan,
            config,
            folder,
            step: 0,
            pause: Pause::default(),
            notes: BTreeMap::new(),
            best: None,
            skipped: 0,
        }
    }

    /// Continues from a checkpoint.
    ///
    /// # Errors
    /// A checkpoint of another kind of model or of other shapes; nothing is changed then.
    pub fn restore(&mut self, snapshot: &Snapshot, kind: &str) -> Result<()> {
        let what = snapshot.meta("kind")?;
        if what != kind {
            return Err(Error::usage(format!("the checkpoint is of a {what} run, not {kind}"))
                .help(format!("use: vqforge train {what}")));
        }
        if snapshot.exceeds(&self.store) {
            return Err(Error::disk("the checkpoint is of a larger model")
                .help("use the configuration that the run was started with"));
        }
        let step = snapshot.step()?;
        snapshot.restore(&mut self.store)?;
        self.step = step;
        self.best = snapshot.meta.get("best").and_then(|b| b.parse().ok());
        self.skipped = snapshot.meta.get("skipped").and_then(|n| n.parse().ok()).unwrap_or(0);
        match &mut self.folder {
            Some(folder) => folder.rewind_metrics(step),
            None => Ok(()),
        }
    }

    /// One step: every lane fed and replayed.
    pub fn advance(&mut self, job: &mut dyn Job) -> Result<()> {
        for lane in 0..self.plan.lanes() {
            job.feed(&mut self.store, &self.plan, self.step, lane)?;
            let scalars = step_scalars(&self.config.train, self.step, lane, RING_ROWS);
            self.plan.run_lane(&mut self.store, lane, &scalars)?;
            job.after_lane(&mut self.store, &self.plan, self.step, lane)?;
        }
        job.after(&mut self.store, &self.plan, self.step)?;
        self.step += 1;
        Ok(())
    }

    /// Runs to `config.train.steps`.
    ///
    /// # Errors
    /// Ctrl-C or the end of `pause` (after saving), divergence, a lost device, a full disk.
    pub fn run(&mut self, job: &mut dyn Job, console: &mut Console) -> Result<Finished> {
        let train = self.config.train.clone();
        if self.step == 0 {
            job.start(self, console)?;
        }
        let first = self.step;
        let progress = Progress::new(&train, first);
        let mut logged = self.step;
        let (mut saved, mut shown) = (Instant::now(), Instant::now());
        let mut loss = f64::NAN;
        let mut numbers: Numbers = vec![];
        let mut anew = None;
        while self.step < train.steps {
            self.advance(job)?;
            let step = self.step;
            let due = |every: u64| every > 0 && step.is_multiple_of(every);
            let last = step == train.steps;
            let mut stopping = self.stopping(step - first, &progress);
            let evaluating = last || due(train.eval_every);
            let drawing = self.folder.is_some() && (last || due(train.sample_every));
            let mut saving = last
                || stopping.is_some()
                || evaluating
                || saved.elapsed().as_secs_f64() >= self.config.checkpoint.every;
            let full = step - logged >= RING_ROWS as u64;
            let showing =
                step == first + 1 || due(train.log_every) || shown.elapsed() >= SHOW_EVERY;
            if showing || full || saving || drawing {
                loss = self.log(job, logged, &progress)?;
                logged = step;
                shown = Instant::now();
                let line = progress.line(step, loss, &numbers);
                if step == first + 1 { console.milestone(&line) } else { console.progress(&line) }
            }
            let mut better = false;
            if evaluating {
                console.progress(&format!("step {step}: evaluating on the held-out part"));
                (numbers, better) = self.evaluate(job, console)?;
            }
            if let Some(folder) = self.folder.as_mut().filter(|_| drawing) {
                job.pictures(&mut self.store, &folder.file(SAMPLES), step)?;
                folder.pictured(step)?;
                self.keep_choices(job)?;
            }
            if evaluating || drawing {
                // They take a while: a Ctrl-C in them ends the run after this step, not the next.
                stopping = stopping.or_else(|| self.stopping(step - first, &progress));
                saving |= stopping.is_some();
            }
            if saving {
                self.save(job, better, evaluating)?;
                saved = Instant::now();
            }
            if let Some(folder) = self.folder.as_ref().filter(|_| evaluating) {
                report::write_results(folder.path())?;
            }
            anew = if evaluating { job.anew() } else { None };
            if anew.is_some() && stopping != Some(Kind::Interrupted) {
                break;
            }
            if let Some(kind) = stopping.filter(|_| !last) {
                return Err(self.stopped(kind, job.kind()));
            }
        }
        if first < self.step {
            console.milestone(&progress.line(self.step, loss, &numbers));
        }
        Ok(Finished { steps: self.step, loss, metrics: numbers, anew })
    }

    /// Why the run is to stop after this step, the `done`-th of this process.
    fn stopping(&self, done: u64, progress: &Progress) -> Option<Kind> {
        if stop::requested() {
            return Some(Kind::Interrupted);
        }
        let out_of_steps = self.pause.steps.is_some_and(|most| done >= most);
        let out_of_time = self.pause.seconds.is_some_and(|most| progress.seconds() >= most);
        (out_of_steps || out_of_time).then_some(Kind::Stopped)
    }

    fn stopped(&self, kind: Kind, job: &str) -> Error {
        let error =
            Error::new(kind, format!("stopped after step {}; everything is saved", self.step));
        match &self.folder {
            Some(folder) => error.help(resume_command(&format!("train {job}"), folder.path())),
            None => error,
        }
    }

    /// Reads the scalars of the steps since `from`, writes them down, returns the last loss.
    fn log(&mut self, job: &dyn Job, from: u64, progress: &Progress) -> Result<f64> {
        let rows = self.plan.read_ring(&mut self.store, from..self.step)?;
        let lanes = self.plan.lanes() as f32;
        let mut loss = f64::NAN;
        for (i, mut row) in rows.into_iter().enumerate() {
            let step = from + i as u64 + 1;
            row.scalars.iter_mut().for_each(|(_, v)| *v /= lanes);
            loss = job.loss(&row.scalars);
            let [norm, applied, _, _] = row.control;
            let searching = row.loss_scale.is_some_and(|s| s > LossScaling::LEAST);
            self.skipped = match applied == 0.0 {
                true => self.skipped + usize::from(!searching),
                false => 0,
            };
            let mut line = serde_json::json!({ "step": step, "loss": loss, "grad_norm": norm });
            for (name, value) in &row.scalars {
                line[name] = serde_json::json!(value);
            }
            if let Some(scale) = row.loss_scale {
                line["loss_scale"] = serde_json::json!(scale);
            }
            if step == self.step {
                line["seconds"] = serde_json::json!(progress.seconds());
                line["images_per_second"] = serde_json::json!(progress.rate(step));
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
                .help(match row.loss_scale {
                    None => "lower train.lr or train.clip; the last checkpoint is good",
                    Some(_) => {
                        "lower train.lr or train.clip, or continue with --precision f32; the last \
                         checkpoint is good"
                    }
                }));
            }
        }
        Ok(loss)
    }

    /// Metrics on held-out data, and whether they are the best so far.
    fn evaluate(&mut self, job: &mut dyn Job, console: &mut Console) -> Result<(Numbers, bool)> {
        let numbers = job.evaluate(&mut self.store)?;
        let text: Vec<_> = numbers.iter().map(|(n, v)| format!("{n} {}", short(*v))).collect();
        console.line(&format!("step {:6}  held out: {}", self.step, text.join("  ")));
        let mut line = serde_json::json!({ "step": self.step });
        for (name, value) in &numbers {
            line["eval"][name] = serde_json::json!(value);
        }
        if let serde_json::Value::Object(details) = job.details() {
            for (name, value) in details {
                line["eval"][name] = value;
            }
        }
        for remark in job.remarks() {
            console.line(&remark);
        }
        if let Some(folder) = &mut self.folder {
            folder.metric(&line)?;
        }
        let (name, more) = job.best();
        let now = numbers.iter().find(|(n, v)| n == name && v.is_finite()).map(|(_, v)| *v);
        let better = now.is_some_and(|now| {
            self.best.is_none_or(|best| if more { now > best } else { now < best })
        });
        if better {
            self.best = now;
        }
        Ok((numbers, better))
    }

    fn snapshot(&mut self, job: &dyn Job) -> Result<Snapshot> {
        let mut snapshot = Snapshot::capture(&mut self.store)?;
        snapshot.meta.insert("kind".into(), job.kind().into());
        snapshot.meta.insert("step".into(), self.step.to_string());
        snapshot.meta.insert("config".into(), self.config.to_toml()?);
        snapshot.meta.extend(job.meta());
        snapshot.meta.extend(self.notes.clone());
        if self.skipped > 0 {
            snapshot.meta.insert("skipped".into(), self.skipped.to_string());
        }
        if let Some(best) = self.best {
            snapshot.meta.insert("best".into(), best.to_string());
        }
        Ok(snapshot)
    }

    /// Writes down which variants of kernels ran so far: some plans are compiled on the way.
    pub fn keep_choices(&self, job: &dyn Job) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let mut used = self.store.device.tuner().map(Tuner::used).cloned().unwrap_or_default();
        used.merge(job.choices());
        choices::add(folder, used)
    }

    /// Writes checkpoints: `best` and a numbered one if asked to, and `last` after them, so that a
    /// run killed in between does the step again and writes the same.
    fn save(&mut self, job: &dyn Job, best: bool, numbered: bool) -> Result<()> {
        let Some(run) = self.folder.as_ref().map(|f| f.path().to_path_buf()) else {
            return Ok(());
        };
        let folder = run.join(CHECKPOINTS);
        let snapshot = self.snapshot(job)?;
        if let Some(folder) = &mut self.folder {
            folder.sync_metrics()?;
            folder.forget_abandoned()?;
        }
        self.keep_choices(job)?;
        if best {
            snapshot.save(&folder.join(BEST))?;
        }
        let kept = self.config.checkpoint.keep;
        if numbered && kept > 0 {
            snapshot.save(&folder.join(checkpoint::step_name(self.step)))?;
            // Those of later steps are left from before the run was continued at an earlier one.
            let known = checkpoint::numbered(&folder);
            let old: Vec<_> = known.iter().filter(|(step, _)| *step <= self.step).collect();
            for (_, path) in old.iter().rev().skip(kept) {
                std::fs::remove_file(path).map_err(|e| {
                    Error::disk("cannot remove an old checkpoint").at_path(path).why(e)
                })?;
            }
        }
        snapshot.rotate(&run)
    }
}

/// What to type to continue what `command` left in a folder: `train vqvae`, `compare`.
pub fn resume_command(command: &str, run: &Path) -> String {
    let run = run.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "._-/\\:".contains(c);
    let quoted = if run.chars().all(plain) { run } else { format!("\"{run}\"") };
    format!("continue with: vqforge {command} --resume {quoted}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_one_budget() {
        let pause = Pause { steps: Some(10), seconds: Some(60.0) };
        assert_eq!(pause.after(4, 45.0), Pause { steps: Some(6), seconds: Some(15.0) });
        assert_eq!(pause.after(10, 61.0), Pause { steps: Some(1), seconds: Some(0.0) });
        assert_eq!(Pause::default().after(4, 45.0), Pause::default());
    }
}
