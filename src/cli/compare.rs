//! `vqforge compare`: trains every arm with every seed, then judges and reports.

use super::begin::{Origin, begin};
use super::common::{DeviceArgs, material, preparing};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vqforge::compare::{
    ArmSpec, Outcome, Pictures, assemble, examine, html, markdown, subjects, vae_arms, vq_arms,
};
use vqforge::config::Config;
use vqforge::data::atomic::write_atomically;
use vqforge::error::{Error, Result};
use vqforge::train::autoencoder::AutoencoderJob;
use vqforge::train::checkpoint::Tensor;
use vqforge::train::progress::clock;
use vqforge::train::{Console, Material, RunFolder, Snapshot, choices, stop};
use vqforge::verdict::{Decision, Rule, Settings};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Settings that all arms share, TOML; a resumed comparison has its own copy
    config: Option<PathBuf>,
    /// Override a setting: section.key=value
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// npz, npy, mat, a folder of PNG images, or synth:human, synth:rotor
    #[arg(long, value_name = "PATH")]
    data: Option<String>,
    /// Arms with codes: plain, gradient, ema, cosine, rotation, simvq, fsq, lfq, bsq, rvqN, mvqN
    #[arg(long, default_value = "ema,fsq,simvq,rvq2")]
    vq: String,
    /// KL-VAEs by the weights of their divergence
    #[arg(long, default_value = "kl=1e-6,1e-4,1e-2")]
    vae: String,
    /// How often each arm is trained, from different weights and batches
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,
    /// Which rule decides: literal, db or rate-matched; all are reported
    #[arg(long, default_value = "db", value_parser = rule)]
    rule: Rule,
    /// The VQ-VAE must be better by more than this, under the rules in dB
    #[arg(long, default_value_t = 0.0, value_name = "DB")]
    margin: f64,
    /// Folder for the runs and the report; default runs/compare-NAME, NAME from the settings
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Continue an interrupted comparison, or with `auto` the one in --out if there is one
    #[arg(long, value_name = "auto|DIR")]
    resume: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
}

fn rule(text: &str) -> std::result::Result<Rule, String> {
    Rule::parse(text).map_err(|_| "use literal, db or rate-matched".into())
}

/// Everything that decides the runs, kept in the folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Protocol {
    /// All settings, TOML.
    config: String,
    data: String,
    arms: Vec<ArmSpec>,
    seeds: u64,
}

impl Protocol {
    /// Is everything of `begun` in it, perhaps with further arms or seeds?
    fn extends(&self, begun: &Protocol) -> bool {
        self.config == begun.config
            && self.data == begun.data
            && self.seeds >= begun.seeds
            && begun.arms.iter().all(|arm| self.arms.contains(arm))
    }
}

const PROTOCOL: &str = "compare.json";
const RUNS: &str = "runs";
const OUTCOME: &str = "outcome.json";
const SHOWN: &str = "shown.safetensors";
/// Held-out images in the report's pictures.
const COLUMNS: usize = 8;

pub fn run(args: &Args) -> Result<Decision> {
    stop::install()?;
    let mut console = Console::new(args.device.quiet);
    let (folder, protocol) = args.protocol()?;
    let base = Config::parse(PROTOCOL, &protocol.config, &[])?;
    let device = args.device.announce(&mut console)?;
    let described = device.describe();
    drop(device);
    let data = material(&base, &protocol.data, None, &mut console)?;
    if data.split.test.is_empty() {
        return Err(Error::data("nothing is held out, so nothing can be judged")
            .at(&data.images.source)
            .help("hold images out: see data.split"));
    }
    std::fs::create_dir_all(&folder)
        .map_err(|e| Error::disk("cannot create the folder").at_path(&folder).why(e))?;
    write_json(&folder.join(PROTOCOL), &protocol)?;
    let mut study = Study {
        args,
        origin: Origin::of(protocol.data.clone(), &data.images),
        folder,
        protocol,
        data,
        console,
    };
    let started = std::time::Instant::now();
    let outcomes = study.outcomes()?;
    let people = subjects(&study.data.images, &base);
    let settings = Settings { rule: args.rule, margin_db: args.margin, ..Settings::default() };
    let result = assemble(&study.protocol.arms, &outcomes, &study.data, &people, &settings)?;
    let facts = study.facts(&base, &described, started.elapsed().as_secs_f64());
    let pictures = study.pictures()?;
    let arms = &study.protocol.arms;
    let page = html(arms, &outcomes, &result, &pictures, &facts)?;
    let text = markdown(arms, &outcomes, &result, &facts);
    let folder = &study.folder;
    write_atomically(&folder.join("report.html"), |w| w.write_all(page.as_bytes()))?;
    write_atomically(&folder.join("report.md"), |w| w.write_all(text.as_bytes()))?;
    let summary = serde_json::json!({
        "decision": result.verdict.decision,
        "exit_code": result.verdict.decision.exit_code(),
        "result": result,
        "outcomes": outcomes,
        "circumstances": facts,
    });
    write_json(&folder.join("report.json"), &summary)?;
    let reason = result.verdict.reasons.last().cloned().unwrap_or_default();
    study.console.line(&format!("{}: {reason}", result.verdict.decision.name()));
    super::print(&folder.join("report.html").display().to_string())?;
    Ok(result.verdict.decision)
}

impl Args {
    /// The folder and what is to be done in it: new, or as it was begun.
    fn protocol(&self) -> Result<(PathBuf, Protocol)> {
        let auto = self.resume.as_deref() == Some(Path::new("auto"));
        if let Some(folder) = self.resume.as_ref().filter(|_| !auto) {
            return Ok((folder.clone(), read_json(&folder.join(PROTOCOL))?));
        }
        let path = self.config.as_deref().ok_or_else(|| {
            Error::usage("no settings were given")
                .help("name a TOML file, for example configs/radar_compare.toml")
        })?;
        let config = Config::load(Some(path), &self.sets)?;
        let data = self.data.clone().ok_or_else(|| {
            Error::usage("no data were given")
                .help("--data FILE.npz, a folder of PNG images, or --data synth:rotor to try")
        })?;
        let folder = self
            .out
            .clone()
            .unwrap_or_else(|| Path::new("runs").join(format!("compare-{}", config.name)));
        let arms = [vq_arms(&self.vq)?, vae_arms(&self.vae)?].concat();
        let protocol = Protocol { config: config.to_toml()?, data, arms, seeds: self.seeds };
        let known = folder.join(PROTOCOL);
        if !known.exists() {
            RunFolder::vacant(Some(&folder), &config.name)?;
            // Mistakes in an arm are told before anything is trained.
            for arm in &protocol.arms {
                Config::parse(&arm.name, &protocol.config, &arm.sets)?;
            }
            return Ok((folder, protocol));
        }
        if !auto {
            return Err(Error::usage("there is a comparison already")
                .at_path(&folder)
                .help("continue it with --resume auto, or choose another --out"));
        }
        let begun: Protocol = read_json(&known)?;
        if !protocol.extends(&begun) {
            return Err(Error::usage("the comparison in this folder is another one")
                .at_path(&folder)
                .why("its settings or data differ, or it has arms or seeds that are missing here")
                .help("continue it with --resume DIR alone, or choose another --out"));
        }
        Ok((folder, protocol))
    }
}

/// A comparison under way.
struct Study<'a> {
    args: &'a Args,
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
                        self.one(arm, seed, &path)?
                    }
                };
                outcomes.push(outcome);
            }
        }
        Ok(outcomes)
    }

    fn run_folder(&self, arm: &ArmSpec, seed: u64) -> PathBuf {
        self.folder.join(RUNS).join(format!("{}-s{seed}", arm.slug()))
    }

    /// Trains one arm with one seed, from where it was stopped if it was, and examines it.
    fn one(&mut self, arm: &ArmSpec, seed: u64, path: &Path) -> Result<Outcome> {
        let set = [format!("train.seed={seed}"), format!("name={}-s{seed}", arm.slug())];
        let sets: Vec<String> = arm.sets.iter().cloned().chain(set).collect();
        let config = Config::parse(&arm.name, &self.protocol.config, &sets)?;
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

    /// The images shown in the report, and what the arms of the first seed made of them.
    fn pictures(&self) -> Result<Pictures> {
        let (images, test) = (&self.data.images, &self.data.split.test);
        let rows: Vec<u32> = shown(test.len()).into_iter().map(|i| test[i]).collect();
        let mut originals = vec![0.0; rows.len() * images.image_len()];
        images.images(&rows, &mut originals);
        let mut made = vec![];
        for arm in &self.protocol.arms {
            let kept = Snapshot::load(&self.run_folder(arm, 0).join(SHOWN))?;
            let tensor = kept.tensors.get("shown").map(|t| t.data.clone()).unwrap_or_default();
            made.push((arm.name.clone(), tensor));
        }
        Ok(Pictures { shape: images.image_shape(), originals, made })
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

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::failed("cannot write JSON").why(e))?;
    write_atomically(path, |w| w.write_all(text.as_bytes()))
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        Error::usage("there is no comparison here").at_path(path).why(e).help(
            "name the folder of an interrupted `vqforge compare`, or start one with a TOML file",
        )
    })?;
    serde_json::from_str(&text)
        .map_err(|e| Error::disk("the comparison's file is damaged").at_path(path).why(e))
}
