//! `vqforge demo`: simulate spectrograms, train the VQ-VAE, train the diffusion on its codes, make
//! new spectrograms of every class and ask a classifier what it sees.

use super::begin::{Origin, begin};
use super::common::{DeviceArgs, material, preparing};
use super::opened::{self, Wanted};
use super::train;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vqforge::config::Config;
use vqforge::data::Dataset;
use vqforge::data::write::to_u8;
use vqforge::device::Device;
use vqforge::diffusion::sampler::Sampler;
use vqforge::error::Result;
use vqforge::report::{Colormap, Grid as Sheet, write_png};
use vqforge::train::autoencoder::AutoencoderJob;
use vqforge::train::classify::Classifier;
use vqforge::train::codes::Tokenizer;
use vqforge::train::diffusion::DiffusionJob;
use vqforge::train::generate::Request;
use vqforge::train::{Console, Job, Material, RunFolder, Session, choices, stop};

const VQVAE: &str = include_str!("../../configs/demo_vqvae.toml");
const DIFFUSION: &str = include_str!("../../configs/demo_diffusion.toml");
const DATA: &str = "synth:rotor";
const VQVAE_RUN: &str = "vqvae";
const DIFFUSION_RUN: &str = "diffusion";
const CLASSIFIER_STEPS: usize = 400;
const FEWEST_IMAGES: usize = 200;
/// Generated images a class that the classifier judges.
const JUDGED: usize = 40;
/// Rows of the sample picture.
const SHOWN: usize = 8;
const GUIDANCE: f32 = 1.5;
const PICTURE: &str = "samples.png";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder for the two runs and the pictures; default runs/demo, runs/demo-2, ...
    #[arg(long)]
    out: Option<PathBuf>,
    /// Fewer steps, to see that everything works: 0.05 is a twentieth
    #[arg(long, default_value_t = 1.0, hide = true, value_parser = scale)]
    scale: f64,
    #[command(flatten)]
    device: DeviceArgs,
}

/// What the three parts share.
struct Demo<'a> {
    args: &'a Args,
    out: PathBuf,
    data: Arc<Material>,
    origin: Origin,
    console: Console,
}

pub fn run(args: &Args) -> Result<()> {
    stop::install()?;
    let started = std::time::Instant::now();
    let mut console = Console::new(args.device.quiet);
    let out = free_folder(args.out.clone());
    let vqvae = scaled("configs/demo_vqvae.toml", VQVAE, args.scale)?;
    let diffusion = scaled("configs/demo_diffusion.toml", DIFFUSION, args.scale)?;
    for part in [VQVAE_RUN, DIFFUSION_RUN] {
        RunFolder::vacant(Some(&out.join(part)), &vqvae.name)?;
    }
    let device = args.device.announce(&mut console)?;
    let data = material(&vqvae, DATA, None, &mut console)?;
    let origin = Origin::of(DATA.into(), &data.images);
    let mut demo = Demo { args, out, data, origin, console };
    demo.console.line("1/3 VQ-VAE: spectrograms to codes and back");
    let vqvae_run = demo.vqvae(vqvae, device)?;
    demo.console.line("2/3 diffusion: new codes");
    let diffusion_run = demo.diffusion(diffusion, &vqvae_run)?;
    demo.console.line("3/3 new spectrograms, judged by a classifier that saw only simulated ones");
    let (images, labels) = demo.generate(&diffusion_run)?;
    let judgement = demo.judge(&images, &labels)?;
    demo.console.line(&judgement);
    demo.console.line(&format!("{:.0} s in all", started.elapsed().as_secs_f64()));
    super::print(&demo.out.display().to_string())
}

impl Demo<'_> {
    /// Trains the VQ-VAE; its run folder.
    fn vqvae(&mut self, config: Config, device: Box<dyn Device>) -> Result<PathBuf> {
        let mut job = AutoencoderJob::new(config, self.data.clone())?;
        let session = job.session(device, None, &mut preparing(&mut self.console))?;
        self.train(session, &mut job, VQVAE_RUN, &|_| Ok(()))
    }

    /// Trains the diffusion on the codes of the VQ-VAE; its run folder.
    fn diffusion(&mut self, config: Config, vqvae: &Path) -> Result<PathBuf> {
        let device = self.open()?;
        let tokenizer = Tokenizer::open(vqvae)?;
        let data = self.data.clone();
        self.console.progress(&format!("encoding {} images", data.images.n));
        let (codes, chosen) = tokenizer.encode(self.open()?, &data.images)?;
        let (arguments, screen) = (self.args.device.clone(), self.console.clone());
        let open = Box::new(move || arguments.open(None, &screen));
        let (mine, numbers) = (tokenizer.clone(), codes.clone());
        let mut job = DiffusionJob::new(config, data.clone(), mine, numbers, open)?;
        let session = job.session(device, None, &mut preparing(&mut self.console))?;
        self.train(session, &mut job, DIFFUSION_RUN, &|folder| {
            choices::add(folder, chosen.clone())?;
            train::keep_codes(folder, &tokenizer, &data.images, &codes)
        })
    }

    /// Trains in a run folder of its own, into which `keep` puts what else belongs there.
    fn train(
        &mut self,
        mut session: Session,
        job: &mut dyn Job,
        name: &str,
        keep: &dyn Fn(&RunFolder) -> Result<()>,
    ) -> Result<PathBuf> {
        let path = self.out.join(name);
        let folder = RunFolder::create(Some(&path), &session.config.name)?;
        begin(&mut session, job, folder, &self.origin, None, &mut self.console)?;
        if let Some(folder) = &session.folder {
            keep(folder)?;
        }
        session.run(job, &mut self.console)?;
        Ok(path)
    }

    fn open(&self) -> Result<Box<dyn Device>> {
        self.args.device.open(None, &self.console)
    }

    /// New images with the classes they were asked to be of, and a picture of some of them.
    fn generate(&mut self, run: &Path) -> Result<(Vec<f32>, Vec<u32>)> {
        let data = &self.data.images;
        let classes = data.classes();
        let batch = classes * SHOWN;
        let mut opened = opened::open(run, batch, &self.args.device, &mut Console::new(true))?;
        let rounds = times(JUDGED, self.args.scale.min(1.0)).div_ceil(SHOWN).max(1);
        let labels: Vec<u32> = (0..rounds * batch).map(|i| (i % classes) as u32).collect();
        let steps = opened.generator.default_steps(Sampler::Ancestral);
        let how = Request { guidance: GUIDANCE, ..Request::new(Sampler::Ancestral, steps) };
        let mut images = vec![];
        opened.make(&Wanted::new(&labels, how), &mut self.console, &mut |_, made| {
            images.extend_from_slice(made);
            Ok(())
        })?;
        let first = &images[..batch * data.image_len()];
        let sheet = Sheet::new(SHOWN, classes, data.image_shape());
        let sheet = sheet.scaled(3).coloured(Colormap::Perceptual);
        write_png(&self.out.join(PICTURE), &sheet.draw(first)?)?;
        let names: Vec<_> = (0..classes).map(|c| data.class_name(c as u32)).collect();
        self.console.line(&format!("columns of {PICTURE}: {}", names.join(", ")));
        Ok((images, labels))
    }

    /// Accuracy of a classifier trained on the simulated training images: on held-out simulated
    /// images, and on the generated ones.
    fn judge(&mut self, images: &[f32], labels: &[u32]) -> Result<String> {
        self.console.progress("training the classifier");
        let steps = times(CLASSIFIER_STEPS, self.args.scale) as u64;
        let mut classifier = Classifier::train(self.open()?, &self.data, steps, 0)?;
        let (data, test) = (&self.data.images, &self.data.split.test);
        let pixels = images.iter().map(|&v| to_u8(v)).collect();
        let (shape, own) = (data.batch_dims(labels.len()), Some(labels.to_vec()));
        let made = Dataset::from_u8(pixels, shape, own, vec![], "samples")?;
        let all: Vec<u32> = (0..made.n as u32).collect();
        let generated = classifier.accuracy(&made, &all)?;
        let real = classifier.accuracy(data, test)?;
        Ok(format!(
            "recognised: {:.1} % of {} generated images, {:.1} % of {} held-out simulated ones",
            100.0 * generated,
            labels.len(),
            100.0 * real,
            test.len()
        ))
    }
}

fn scale(text: &str) -> std::result::Result<f64, String> {
    let within = |s: &f64| (1e-4..=10.0).contains(s);
    text.parse().ok().filter(within).ok_or_else(|| "use a number from 0.0001 to 10".into())
}

/// The settings with `scale` times as many steps and images, at least a few.
fn scaled(name: &str, text: &str, scale: f64) -> Result<Config> {
    let plain = Config::parse(name, text, &[])?;
    let steps = times(plain.train.steps as usize, scale).max(2);
    let warmup = plain.train.warmup.min(steps as u64 / 2);
    let n = times(plain.data.synth.n, scale).max(FEWEST_IMAGES);
    let sets = [("train.steps", steps), ("train.warmup", warmup as usize), ("data.synth.n", n)];
    Config::parse(name, text, &sets.map(|(key, value)| format!("{key}={value}")))
}

fn times(count: usize, scale: f64) -> usize {
    (count as f64 * scale).ceil() as usize
}

fn free_folder(wanted: Option<PathBuf>) -> PathBuf {
    wanted.unwrap_or_else(|| {
        let first = PathBuf::from("runs/demo");
        if !first.exists() {
            return first;
        }
        let numbered = (2..).map(|i| PathBuf::from(format!("runs/demo-{i}")));
        numbered.into_iter().find(|p| !p.exists()).unwrap_or(first)
    })
}
