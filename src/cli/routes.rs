//! The part of `vqforge compare` that makes samples: diffusions over every arm, and what `vqforge eval` says
//! of them.

use super::common::DeviceArgs;
use super::protocol::{Protocol, read_json, write_json};
use super::{eval, train};
use std::io::Write;
use std::path::{Path, PathBuf};
use vqforge::compare::{ArmSpec, Generation, Route, SampleOutcome};
use vqforge::config::Config;
use vqforge::data::atomic::write_atomically;
use vqforge::error::{Error, Kind, Result};
use vqforge::metrics::generation::{Evaluation, Judged};
use vqforge::report::html::Picture;
use vqforge::train::Console;

/// Whether samples are judged, and how they are made.
#[derive(Debug, clap::Args)]
pub struct Generating {
    /// Train diffusions over every arm with these settings, TOML, too, and judge their samples
    #[arg(long, value_name = "SETTINGS")]
    pub(super) generate: Option<PathBuf>,
    /// Samples of each diffusion
    #[arg(long, value_name = "N", requires = "generate", default_value_t = 500, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    samples: u32,
    /// Network evaluations of a sample; default: the sampler's own number
    #[arg(long, value_name = "N", requires = "generate", value_parser = clap::value_parser!(u32).range(1..=4095))]
    sampling_steps: Option<u32>,
    /// Scale of classifier-free guidance; 1: none
    #[arg(long, requires = "generate", default_value_t = 1.5, value_parser = guidance)]
    guidance: f32,
    /// Steps of each judging classifier
    #[arg(long, value_name = "N", requires = "generate", default_value_t = eval::CLASSIFIER_STEPS, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    classifier_steps: u64,
}

fn guidance(text: &str) -> std::result::Result<f32, String> {
    text.parse().ok().filter(|g: &f32| g.is_finite()).ok_or_else(|| "use 1 to 5".into())
}

impl Generating {
    pub fn described(&self) -> Result<Option<Generation>> {
        let Some(path) = &self.generate else { return Ok(None) };
        Ok(Some(Generation {
            config: Config::load(Some(path), &[])?.to_toml()?,
            samples: self.samples,
            steps: self.sampling_steps,
            guidance: self.guidance,
            classifier_steps: self.classifier_steps,
        }))
    }
}

const OUTCOME: &str = "samples.json";

/// Where one arm with one seed is diffused and sampled.
pub struct Stage<'a> {
    pub protocol: &'a Protocol,
    pub device: &'a DeviceArgs,
    /// What that device is.
    pub judged_on: &'a str,
    /// Of the autoencoder.
    pub run: PathBuf,
    pub arm: &'a ArmSpec,
    pub seed: u64,
}

impl Stage<'_> {
    fn folder(&self, route: Route) -> PathBuf {
        let mut name = self.run.file_name().unwrap_or_default().to_os_string();
        name.push(format!("-{}", route.name()));
        self.run.with_file_name(name)
    }

    /// Trains and judges, from where it was left.
    pub fn sampled(
        &self,
        generation: &Generation,
        route: Route,
        console: &mut Console,
    ) -> Result<SampleOutcome> {
        let folder = self.folder(route);
        let known = folder.join(OUTCOME);
        if known.exists() {
            return read_json(&known);
        }
        let what = format!("{}, seed {}: {} diffusion", self.arm.name, self.seed, route.name());
        console.line(&what);
        let trained = self.train(generation, route, &folder, console);
        let evaluation =
            match trained.and_then(|()| self.judge(generation, route, &folder, console)) {
                Ok(evaluation) => Judged::Value(evaluation),
                Err(e) if e.kind == Kind::Diverged => {
                    let reason = e.to_string().lines().next().unwrap_or_default().to_string();
                    let again = format!("delete {} to begin it again", folder.display());
                    console.line(&format!("warning: {what} failed: {reason} (help: {again})"));
                    Judged::not(reason)
                }
                Err(e) => return Err(e),
            };
        let (arm, device) = (self.arm.name.clone(), self.judged_on.to_string());
        let outcome = SampleOutcome { arm, seed: self.seed, route, device, evaluation };
        // Latents that are not finite are seen before there is a run folder.
        std::fs::create_dir_all(&folder)
            .map_err(|e| Error::disk("cannot create the folder").at_path(&folder).why(e))?;
        write_json(&known, &outcome)?;
        Ok(outcome)
    }

    fn train(
        &self,
        generation: &Generation,
        route: Route,
        folder: &Path,
        console: &mut Console,
    ) -> Result<()> {
        let base = Config::parse(&self.arm.name, &self.protocol.config, &[])?;
        let config = generation.settings(&base, self.arm, route, self.seed)?.to_toml()?;
        // Beside the run's folder, which must be new.
        let mut settings = folder.as_os_str().to_os_string();
        settings.push(".toml");
        let settings = PathBuf::from(settings);
        write_atomically(&settings, |w| w.write_all(config.as_bytes()))?;
        let (data, out) = (self.protocol.data.clone(), folder.to_path_buf());
        let training = train::Common::run_in(settings, data, out, self.device.clone());
        train::diffusion(&training, Some(&self.run), console).map(drop)
    }

    fn judge(
        &self,
        generation: &Generation,
        route: Route,
        folder: &Path,
        console: &mut Console,
    ) -> Result<Evaluation> {
        let (sampler, seed) = (route.sampler(), self.seed);
        let judging = eval::Args::of_run(folder, generation, sampler, seed, self.device);
        Ok(eval::judge(&judging, console)?.0)
    }

    /// What `vqforge eval` drew of it; nothing of a training that failed.
    pub fn picture(&self, route: Route) -> Result<Option<Picture>> {
        let file = self.folder(route).join(eval::OUT).join(eval::GRID);
        if !file.exists() {
            return Ok(None);
        }
        let png = std::fs::read(&file)
            .map_err(|e| Error::disk("the picture cannot be read").at_path(&file).why(e))?;
        let caption = format!(
            "{}, {} diffusion: samples left, held-out images right, a row a class",
            self.arm.name,
            route.name()
        );
        Ok(Some(Picture { caption, png }))
    }
}
