//! `vqforge compare`: trains every arm with every seed, then judges and reports.

use super::begin::{Origin, begin, identity};
use super::common::{DeviceArgs, material, preparing};
use super::protocol::{PROTOCOL, Protocol, read_json, write_json};
use super::routes::{Generating, Stage};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vqforge::compare::{
    ArmSpec, Outcome, Pictures, Route, SampleOutcome, Standing, assemble, examine, html, markdown,
    standing, subjects,
};
use vqforge::config::Config;
use vqforge::data::atomic::write_atomically;
use vqforge::error::{Error, Kind, Result};
use vqforge::train::autoencoder::AutoencoderJob;
use vqforge::train::checkpoint::Tensor;
use vqforge::train::classify::Classifier;
use vqforge::train::progress::clock;
use vqforge::train::session::resume_command;
use vqforge::train::{Console, Material, RunFolder, Snapshot, choices, stop};
use vqforge::verdict::{Decision, Rule, Settings};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Settings that all arms share, TOML; a resumed comparison has its own copy
    pub(super) config: Option<PathBuf>,
    /// Override a setting: section.key=value
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(super) sets: Vec<String>,
    /// npz, npy, mat, a folder of PNG images, or synth:human, synth:rotor
    #[arg(long, value_name = "PATH")]
    pub(super) data: Option<String>,
    /// Arms with codes: plain, gradient, ema, cosine, rotation, simvq, fsq, lfq, bsq, rvqN, mvqN; default
    /// ema,fsq,simvq,rvq2
    #[arg(long)]
    pub(super) vq: Option<String>,
    /// KL-VAEs by the weights of their divergence; default kl=1e-6,1e-4,1e-2
    #[arg(long)]
    pub(super) vae: Option<String>,
    /// How often each arm is trained, from different weights and batches; default 3
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub(super) seeds: Option<u64>,
    /// Which rule decides: literal, db, rate-matched or generation; all are reported; default db, or the one
    /// before
    #[arg(long, value_parser = rule)]
    pub(super) rule: Option<Rule>,
    /// The VQ-VAE must be better by more than this, under the rules in dB; default 0, or as before
    #[arg(long, value_name = "DB", value_parser = decibels, allow_negative_numbers = true)]
    pub(super) margin: Option<f64>,
    #[command(flatten)]
    pub(super) generating: Generating,
    /// Folder for the runs and the report; default runs/compare-NAME, NAME from the settings
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    /// Continue an interrupted comparison, or with `auto` the one in --out if there is one
    #[arg(long, value_name = "auto|DIR")]
    pub(super) resume: Option<PathBuf>,
    #[command(flatten)]
    pub(super) device: DeviceArgs,
}

fn rule(text: &str) -> std::result::Result<Rule, String> {
    Rule::parse(text).map_err(|_| "use literal, db, rate-matched or generation".into())
}

fn decibels(text: &str) -> std::result::Result<f64, String> {
    text.parse().ok().filter(|d: &f64| d.is_finite()).ok_or_else(|| "use a number of dB".into())
}

const RUNS: &str = "runs";
const OUTCOME: &str = "outcome.json";
const SHOWN: &str = "shown.safetensors";
/// Held-out images in the report's pictures.
const COLUMNS: usize = 8;

pub fn run(args: &Args) -> Result<Decision> {
    stop::install()?;
    let mut console = Console::new(args.device.quiet);
    let (folder, mut protocol) = args.protocol()?;
    let base = Config::parse(PROTOCOL, &protocol.config, &[])?;
    let device = args.device.announce(&mut console)?;
    let (described, judged_on) = (device.describe(), identity(&*device));
    drop(device);
    let data = material(&base, &protocol.data, None, &mut console)?;
    if data.split.test.is_empty() {
        return Err(Error::data("nothing is held out, so nothing can be judged")
            .at(&data.images.source)
            .help("hold images out: see data.split"));
    }
    if protocol.generation.is_some() {
        Classifier::fits(&data.images)?;
    }
    protocol.recognise(&data, &base, &folder)?;
    std::fs::create_dir_all(&folder)
        .map_err(|e| Error::disk("cannot create the folder").at_path(&folder).why(e))?;
    write_json(&folder.join(PROTOCOL), &protocol)?;
    let mut study = Study {
        args,
        judged_on,
        origin: Origin::of(protocol.data.clone(), &data.images),
        folder,
        protocol,
        data,
        console,
    };
    let started = std::time::Instant::now();
    let outcomes = study.outcomes()?;
    let people = subjects(&study.data.images, &base);
    let Protocol { rule, margin: margin_db, .. } = study.protocol;
    let settings = Settings { rule, margin_db, ..Settings::default() };
    let Standing { arms, outcomes: judged, notes } = standing(&study.protocol.arms, &outcomes)?;
    let samples = study.samples(&arms)?;
    let mut result = assemble(&arms, &judged, &samples, &study.data, &people, &settings)?;
    result.notes.extend(notes);
    let facts = study.facts(&base, &described, started.elapsed().as_secs_f64());
    let pictures = study.pictures(&arms)?;
    let page = html(&arms, &judged, &samples, &result, &pictures, &facts)?;
    let text = markdown(&arms, &judged, &samples, &result, &facts);
    let folder = &study.folder;
    write_atomically(&folder.join("report.html"), |w| w.write_all(page.as_bytes()))?;
    write_atomically(&folder.join("report.md"), |w| w.write_all(text.as_bytes()))?;
    let summary = serde_json::json!({
        "decision": result.verdict.decision,
        "exit_code": result.verdict.decision.exit_code(),
        "result": result,
        "outcomes": outcomes,
        "samples": samples,
        "circumstances": facts,
    });
    write_json(&folder.join("report.json"), &summary)?;
    let reason = result.verdict.reasons.last().cloned().unwrap_or_default();
    study.console.line(&format!("{}: {reason}", result.verdict.decision.name()));
    super::print(&folder.join("report.html").display().to_string())?;
    Ok(result.verdict.decision)
}

/// A comparison under way.
struct Study<'a> {
    args: &'a Args,
    /// The device.
    judged_on: String,
    origin: Origin,
    folder: PathBuf,
    protocol: Protocol,
    data: Arc<Material>,
    console: Console,
}

impl Study<'_> {
    /// Trains what is not trained yet, a seed after the other; the outcomes of all.
    fn outcomes(&mut self) -> Result<Vec<Outcome>> {
        let (arms, seeds) = (self.protocol.arms.clone(), self.protocol.seeds);
        let all = arms.len() * seeds as usize;
        let mut outcomes: Vec<Outcome> = vec![];
        for seed in 0..seeds {
            for arm in &arms {
                let path = self.run_folder(arm, seed);
                let number = outcomes.len() + 1;
                let outcome = match path.join(OUTCOME).exists() {
                    true => read_json(&path.join(OUTCOME))?,
                    false => {
                        self.console.line(&format!("{number}/{all} {}, seed {seed}", arm.name));
                        self.one(arm, seed, &path).or_else(|e| self.ended(arm, seed, &path, &e))?
                    }
                };
                outcomes.push(outcome);
            }
        }
        Ok(outcomes)
    }

    /// Of diffusions over the arms, if they are asked for, with the seed of the arm each.
    fn samples(&mut self, arms: &[ArmSpec]) -> Result<Vec<SampleOutcome>> {
        let Some(generation) = self.protocol.generation.clone() else { return Ok(vec![]) };
        let mut outcomes = vec![];
        for seed in 0..self.protocol.seeds {
            for arm in arms {
                for &route in Route::of(arm.kind) {
                    let mut console = self.console.clone();
                    let outcome = self.stage(arm, seed).sampled(&generation, route, &mut console);
                    outcomes.push(outcome.map_err(|e| match e.kind {
                        Kind::Interrupted => self.interrupted(arm, seed),
                        _ => e,
                    })?);
                }
            }
        }
        Ok(outcomes)
    }

    fn stage<'a>(&'a self, arm: &'a ArmSpec, seed: u64) -> Stage<'a> {
        Stage {
            protocol: &self.protocol,
            device: &self.args.device,
            judged_on: &self.judged_on,
            run: self.run_folder(arm, seed),
            arm,
            seed,
        }
    }

    fn run_folder(&self, arm: &ArmSpec, seed: u64) -> PathBuf {
        self.folder.join(RUNS).join(format!("{}-s{seed}", arm.slug()))
    }

    /// Trains one arm with one seed, from where it was stopped if it was, and examines it.
    fn one(&mut self, arm: &ArmSpec, seed: u64, path: &Path) -> Result<Outcome> {
        let config = self.protocol.settings(arm, seed)?;
        let resumed = RunFolder::is_run(path);
        let folder = match resumed {
            true => RunFolder::open(path)?,
            false => RunFolder::create(Some(path), &config.name)?,
        };
        let snapshot = match resumed && any_checkpoint(path) {
            true => Some(Snapshot::load_last(path)?.0),
            false => None,
        };
        let own = snapshot.is_some().then(|| choices::of_run(path)).transpose()?;
        let device = self.args.device.open(own.as_ref(), &self.console)?;
        let mut job = AutoencoderJob::new(config.clone(), self.data.clone())?;
        let mut session = job.session(device, None, &mut preparing(&mut self.console))?;
        begin(&mut session, &job, folder, &self.origin, snapshot.as_ref(), &mut self.console)?;
        session.run(&mut job, &mut self.console)?;
        let test = self.data.split.test.clone();
        let shown = shown(test.len());
        let (outcome, made) =
            examine(&arm.name, &config, &mut job, &mut session.store, &test, &shown)?;
        let mut kept = Snapshot::default();
        kept.tensors.insert("shown".into(), Tensor { shape: vec![made.len()], data: made });
        kept.save(&path.join(SHOWN))?;
        write_json(&path.join(OUTCOME), &outcome)?;
        Ok(outcome)
    }

    /// One run that diverges must not keep the others from being judged: it is an outcome, too. A
    /// Ctrl-C ends the comparison, not the run alone.
    fn ended(&mut self, arm: &ArmSpec, seed: u64, path: &Path, error: &Error) -> Result<Outcome> {
        match error.kind {
            Kind::Diverged => {
                let run = format!("{}, seed {seed}", arm.name);
                let reason = error.to_string().lines().next().unwrap_or_default().to_string();
                let again = format!("delete {} to train it again", path.display());
                self.console.line(&format!("warning: {run} failed: {reason} (help: {again})"));
                let outcome = Outcome::of_failure(&arm.name, seed, reason);
                write_json(&path.join(OUTCOME), &outcome)?;
                Ok(outcome)
            }
            Kind::Interrupted => Err(self.interrupted(arm, seed)),
            _ => Err(error.clone()),
        }
    }

    fn interrupted(&self, arm: &ArmSpec, seed: u64) -> Error {
        let run = format!("{}, seed {seed}", arm.name);
        Error::new(Kind::Interrupted, format!("stopped in {run}; everything is saved"))
            .help(resume_command("compare", &self.folder))
    }

    /// The images shown in the report, and what the arms of the first seed made of them.
    fn pictures(&self, arms: &[ArmSpec]) -> Result<Pictures> {
        let (images, test) = (&self.data.images, &self.data.split.test);
        let rows: Vec<u32> = shown(test.len()).into_iter().map(|i| test[i]).collect();
        let mut originals = vec![0.0; rows.len() * images.image_len()];
        images.images(&rows, &mut originals);
        let mut made = vec![];
        for arm in arms {
            let kept = Snapshot::load(&self.run_folder(arm, 0).join(SHOWN))?;
            let tensor = kept.tensors.get("shown").map(|t| t.data.clone()).unwrap_or_default();
            made.push((arm.name.clone(), tensor));
        }
        let mut samples = vec![];
        if self.protocol.generation.is_some() {
            for arm in arms {
                for &route in Route::of(arm.kind) {
                    samples.extend(self.stage(arm, 0).picture(route)?);
                }
            }
        }
        Ok(Pictures { shape: images.image_shape(), originals, made, samples })
    }

    fn facts(&self, base: &Config, device: &str, seconds: f64) -> Vec<(String, String)> {
        let (images, split) = (&self.data.images, &self.data.split);
        let size = format!("{} x {} x {}", images.height, images.width, images.channels);
        [
            ("data", format!("{}, {} images of {size}", images.source, images.n)),
            ("trained on, held out", format!("{}, {}", split.train.len(), split.test.len())),
            ("steps, batch", format!("{}, {}", base.train.steps, base.train.batch)),
            ("seeds", self.protocol.seeds.to_string()),
            ("backbone", format!("{:?} {:?}", base.model.family, base.model.block_out_channels)),
            ("device", device.into()),
            ("vqforge", env!("CARGO_PKG_VERSION").into()),
            ("time of this session", clock(seconds)),
        ]
        .map(|(name, value)| (name.to_string(), value))
        .into()
    }
}

/// Places in the held-out part, spread over it.
fn shown(held_out: usize) -> Vec<usize> {
    let n = held_out.min(COLUMNS);
    (0..n).map(|i| i * held_out / n).collect()
}

fn any_checkpoint(run: &Path) -> bool {
    let entries = run.join(vqforge::train::folder::CHECKPOINTS).read_dir();
    let is = |path: &Path| path.extension().is_some_and(|e| e == "safetensors");
    entries.is_ok_and(|mut d| d.any(|f| f.is_ok_and(|f| is(&f.path()))))
}
