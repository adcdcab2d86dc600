//! What several commands share: choosing a device, opening data.

use super::tuning;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use vqforge::config::{Config, SynthPreset};
use vqforge::data::provenance::SIMULATED;
use vqforge::data::synth::{Preset, SynthSpec, generate};
use vqforge::data::{Dataset, Scale};
use vqforge::device::tuner::{Mode, Table};
use vqforge::device::{self, Device, Tuner};
use vqforge::error::{Error, Result};
use vqforge::train::{Console, Material};

/// Where to compute.
#[derive(Debug, Clone, clap::Args)]
pub struct DeviceArgs {
    /// auto, cpu, an index, pci:ADDRESS, or part of a name (see `vqforge devices`)
    #[arg(long, env = "VQFORGE_DEVICE", default_value = "auto")]
    pub device: String,
    /// Threads of the CPU device; 0: all cores. Results do not depend on it
    #[arg(long, default_value_t = 0, value_parser = threads)]
    pub threads: usize,
    /// Variants of kernels on a GPU: baselines only, what was measured before (the default), or
    /// measure now. A continued run keeps its own
    #[arg(long, value_name = "off|cache|now", value_parser = mode)]
    pub tune: Option<Mode>,
    /// Only errors
    #[arg(short, long)]
    pub quiet: bool,
}

fn threads(text: &str) -> std::result::Result<usize, String> {
    text.parse().ok().filter(|&n| n <= 1024).ok_or_else(|| "use 0 to 1024".into())
}

fn mode(text: &str) -> std::result::Result<Mode, String> {
    text.parse().map_err(|_| "use off, cache or now".into())
}

impl DeviceArgs {
    /// A device with the choices of a run, or else with what `--tune` says.
    pub fn open(&self, own: Option<&Table>, console: &Console) -> Result<Box<dyn Device>> {
        // An empty VQFORGE_DEVICE counts as none.
        let wanted = if self.device.trim().is_empty() { "auto" } else { self.device.trim() };
        let mut device = device::open(wanted, self.threads)?;
        match own {
            Some(choices) => device.set_tuner(Tuner::fixed(choices.clone())),
            None => tuning::equip(&mut *device, self.tune.unwrap_or(Mode::Cache), console)?,
        }
        Ok(device)
    }

    /// Opens the device and says which one it is: the first line of every run.
    pub fn announce(&self, console: &mut Console) -> Result<Box<dyn Device>> {
        self.announce_with(None, console)
    }

    /// As [`announce`](Self::announce), with the choices of a run if there are any.
    pub fn announce_with(
        &self,
        own: Option<&Table>,
        console: &mut Console,
    ) -> Result<Box<dyn Device>> {
        let device = self.open(own, console)?;
        console.line(&format!("device {}", device.describe()));
        Ok(device)
    }
}

/// A line on standard error.
pub fn tell(text: &str) {
    // Nothing is left to do if standard error is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Simulates a data set.
pub fn simulate(spec: &SynthSpec) -> Result<Dataset> {
    let set = generate(spec)?;
    let mut data = Dataset::from_u8(
        set.pixels_u8,
        [spec.n, set.size, set.size, 1],
        Some(set.labels),
        set.class_names,
        format!("{SIMULATED}{}", spec.preset),
    )?;
    data.notes.push(format!("simulated, seed {}", spec.seed));
    Ok(data)
}

/// `PATH`, `synth` or `synth:PRESET`, as it is.
pub fn load(config: &Config, data: &str) -> Result<Dataset> {
    let preset = match data.split_once(':').unwrap_or((data, "")) {
        ("synth", preset) if !Path::new(data).exists() => preset,
        _ => {
            let labels = config.data.preparation().labels;
            return Dataset::load_with(data, &labels, config.data.transform());
        }
    };
    let synth = &config.data.synth;
    let preset: Preset = match (preset, synth.preset) {
        ("", SynthPreset::Human) => Preset::Human,
        ("", SynthPreset::Rotor) => Preset::Rotor,
        (name, _) => name.parse()?,
    };
    simulate(&SynthSpec {
        preset,
        size: synth.size,
        n: synth.n,
        seed: synth.seed,
        floor_db: synth.floor_db(),
        classes: None,
    })
}

/// Images as [`load`] finds them, prepared as the settings say; with `scale` normalised by it and not
/// by a new one.
pub fn material(
    config: &Config,
    data: &str,
    scale: Option<Scale>,
    console: &mut Console,
) -> Result<Arc<Material>> {
    let (images, split) = load(config, data)?.prepare_as(&config.data.preparation(), scale)?;
    for warning in images.warnings.iter().chain(&split.warnings) {
        console.line(&format!("warning: {warning}"));
    }
    console.line(&format!(
        "data {}: {} images of {}x{}x{}, {} to train, {} held out",
        images.source,
        images.n,
        images.height,
        images.width,
        images.channels,
        split.train.len(),
        split.test.len()
    ));
    Ok(Arc::new(Material { images, split }))
}

/// Says what a session waits for while its kernels are prepared.
pub fn preparing(console: &mut Console) -> impl FnMut(usize, usize) + '_ {
    move |done, all| {
        if all > 0 {
            console.progress(&format!("preparing kernels {done}/{all}"));
        }
    }
}

/// A folder for results, made if needed.
pub fn folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path)
        .map_err(|e| Error::disk("cannot create the folder").at_path(path).why(e))
}

/// Images as the tokenizer saw those it was trained on.
pub fn prepared(tokenizer: &vqforge::train::codes::Tokenizer, path: &str) -> Result<Dataset> {
    let preparation = tokenizer.config.data.preparation();
    let mut images = load(&tokenizer.config, path)?;
    match tokenizer.scale()? {
        Some(scale) => images.apply(scale)?,
        None => images.normalise(&preparation.norm, None)?,
    }
    if let Some((height, width)) = preparation.size {
        images.resize(height, width)?;
    }
    Ok(images)
}
