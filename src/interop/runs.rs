//! Runs to diffusers' folders, and runs made of such folders.

use super::config;
use super::diffusers::{Autoencoder, CONFIG, WEIGHTS, expressible};
use crate::config::{Config, Model, Quantiser, QuantiserKind};
use crate::data::Dataset;
use crate::data::atomic::write_atomically;
use crate::data::split::Split;
use crate::device::CpuDevice;
use crate::error::{Error, Result};
use crate::train::autoencoder::AutoencoderJob;
use crate::train::{Console, Job, Material, RunFolder, Snapshot};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The `config.json` that a run was imported with: it keeps what only pipelines want to know.
pub(super) const ORIGIN: &str = "diffusers.json";

/// Writes the best checkpoint of a run as a folder that `from_pretrained` reads.
///
/// # Errors
/// No run, one that diffusers' classes cannot express, the disk.
pub fn export(run: &Path, folder: &Path) -> Result<Autoencoder> {
    if folder.join(CONFIG).exists() || folder.join(WEIGHTS).exists() {
        return Err(Error::usage("there is a model already").at_path(folder).help("another --out"));
    }
    let snapshot = Snapshot::load_best(run)?;
    let kind = snapshot.meta("kind")?;
    if !["vqvae", "klvae"].contains(&kind) {
        return Err(Error::usage(format!("a {kind} run has no diffusers form"))
            .at_path(run)
            .help("export the run of its tokenizer"));
    }
    let mut model = Autoencoder::from_snapshot(&snapshot).map_err(|e| e.at_path(run))?;
    let origin = run.join(ORIGIN);
    if origin.exists() {
        model.hints = config::read(&origin)?.1;
    }
    model.write(folder)?;
    Ok(model)
}

/// Makes a run of a folder that `save_pretrained` of `VQModel` or `AutoencoderKL` wrote: settings from
/// its `config.json`, changed by `sets`, and one checkpoint. The codes are trained by gradient, as
/// diffusers does, unless `sets` say otherwise.
///
/// # Errors
/// What [`Autoencoder::read`] refuses; settings of another model; a run folder that is in use.
pub fn import(folder: &Path, run: &Path, sets: &[String]) -> Result<PathBuf> {
    let model = Autoencoder::read(folder)?;
    let config = settings(&model, folder, sets)?;
    RunFolder::vacant(Some(run), &config.name)?;
    let snapshot = first_checkpoint(&model, &config)?;
    let made = RunFolder::create(Some(run), &config.name)?;
    made.describe(&config, "none: imported", &mut Console::new(true))?;
    let text = config::text(&model.model, &model.hints)?;
    write_atomically(&made.file(ORIGIN), |w| w.write_all(text.as_bytes()))?;
    snapshot.rotate(made.path())?;
    Ok(made.path().to_path_buf())
}

/// A name for the run of a folder.
pub(super) fn name(folder: &Path) -> String {
    let text = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let name: String = text.chars().map(|c| if plain(c) { c } else { '-' }).take(64).collect();
    if name.contains(char::is_alphanumeric) { name } else { "imported".into() }
}

/// The settings of a run of `model`.
pub(super) fn settings(model: &Autoencoder, folder: &Path, sets: &[String]) -> Result<Config> {
    let quantiser = Quantiser { kind: QuantiserKind::Gradient, ..Quantiser::default() };
    let base =
        Config { name: name(folder), model: model.model.clone(), quantiser, ..Config::default() };
    let config = Config::parse("config.json", &base.to_toml()?, sets)?;
    let commitment_cost = base.model.commitment_cost;
    if (Model { commitment_cost, ..config.model.clone() }) != base.model {
        return Err(Error::usage("the sizes of an imported model are fixed")
            .at("--set")
            .help("change settings of other sections, for example train.lr or data.norm"));
    }
    let learned = [config.loss.adversarial.weight, config.loss.perceptual.weight];
    if learned.iter().any(|&weight| weight > 0.0) {
        return Err(Error::usage("the folder has no discriminator and no features")
            .at("--set")
            .why("loss.adversarial and loss.perceptual train networks of their own from the start")
            .help("leave their weights at 0"));
    }
    expressible(&config)?;
    Ok(config)
}

/// What a run of `config` would have saved before its first step, with the weights of `model`. It counts
/// as step 1: step 0 would fit the codebook anew.
pub(super) fn first_checkpoint(model: &Autoencoder, config: &Config) -> Result<Snapshot> {
    // States and parameters do not depend on the images: black ones of the smallest size do.
    let mut small = config.clone();
    small.train.batch = config.train.lanes.max(1);
    let (n, side) = (small.train.batch, 4 * config.model.reduction());
    let shape = [n, side, side, config.model.in_channels];
    let pixels = vec![0; shape.iter().product()];
    let images = Dataset::from_u8(pixels, shape, None, vec![], "import")?;
    let all: Vec<u32> = (0..n as u32).collect();
    let split = Split { train: all.clone(), test: all, warnings: vec![] };
    let mut job = AutoencoderJob::new(small, Arc::new(Material { images, split }))?;
    let device = Box::new(CpuDevice::new(0)?);
    let mut session = job.session(device, None, &mut |_, _| {})?;
    model.load_into(&mut session.store)?;
    let mut snapshot = Snapshot::capture(&mut session.store)?;
    for (key, value) in [("kind", job.kind()), ("step", "1"), ("config", &config.to_toml()?)] {
        snapshot.meta.insert(key.into(), value.into());
    }
    Ok(snapshot)
}
