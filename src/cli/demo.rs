//! `vqforge demo`: simulate spectrograms, train the VQ-VAE, train the diffusion on its codes, make
//! new spectrograms of every class and ask a classifier what it sees.

use super::common::{DeviceArgs, material, preparing, tell};
use super::{sample, train};
use std::path::PathBuf;
use std::sync::Arc;
use vqforge::config::Config;
use vqforge::device;
use vqforge::diffusion::sampler::Sampler;
use vqforge::error::Result;
use vqforge::report::{Colormap, Grid as Sheet, write_png};
use vqforge::train::classify::Classifier;
use vqforge::train::codes::{Tokenizer, cached, fingerprint};
use vqforge::train::diffusion::{DiffusionJob, Request};
use vqforge::train::vqvae::VqVaeJob;
use vqforge::train::{Console, Material, RunFolder, stop};

const VQVAE: &str = include_str!("../../configs/demo_vqvae.toml");
const DIFFUSION: &str = include_str!("../../configs/demo_diffusion.toml");
const DATA: &str = "synth:rotor";
const VQVAE_RUN: &str = "vqvae";
const DIFFUSION_RUN: &str = "diffusion";
const CLASSIFIER_STEPS: u64 = 400;
/// Generated images a class that the classifier judges.
const JUDGED: usize = 40;
/// Rows of the sample picture.
const SHOWN: usize = 8;
const GUIDANCE: f32 = 1.5;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder for the two runs and the pictures; default runs/demo, runs/demo-2, ...
    #[arg(long)]
    out: Option<PathBuf>,
    /// Fewer steps, to see that everything works: 0.05 is a twentieth
    #[arg(long, default_value_t = 1.0, hide = true)]
    scale: f64,
    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: &Args) -> Result<()> {
    stop::install()?;
    let started = std::time::Instant::now();
    let mut console = Console::new(args.device.quiet);
    let out = free_folder(args.out.clone());
    let config = scaled("configs/demo_vqvae.toml", VQVAE, args.scale)?;
    for part in [VQVAE_RUN, DIFFUSION_RUN] {
        RunFolder::vacant(Some(&out.join(part)), &config.name)?;
    }
    let device = args.device.announce(&mut console)?;
    let data = material(&config, DATA, None, &mut console)?;
    let notes = [("data".into(), DATA.into()), ("data_hash".into(), fingerprint(&data.images))];

    console.line("1/3 VQ-VAE: spectrograms to codes and back");
    let folder = RunFolder::create(Some(&out.join(VQVAE_RUN)), &config.name)?;
    folder.describe(&config, &device.describe(), &mut console)?;
    let vqvae_run = folder.path().to_path_buf();
    let mut job = VqVaeJob::new(config, data.clone())?;
    let mut session = job.session(device, Some(folder), &mut preparing(&mut console))?;
    session.notes = notes.clone().into();
    session.run(&mut job, &mut console)?;
    drop(session);

    console.line("2/3 diffusion: new codes");
    let config = scaled("configs/demo_diffusion.toml", DIFFUSION, args.scale)?;
    let device = args.device.open()?;
    let folder = RunFolder::create(Some(&out.join(DIFFUSION_RUN)), &config.name)?;
    folder.describe(&config, &device.describe(), &mut console)?;
    let diffusion_run = folder.path().to_path_buf();
    let tokenizer = Tokenizer::open(&vqvae_run)?;
    tokenizer.snapshot.save(&folder.file(train::TOKENIZER))?;
    let arguments = args.device.clone();
    let open = move || arguments.open();
    let codes = cached(&folder.file("codes.safetensors"), &tokenizer, &data.images, &open)?;
    let mut job = DiffusionJob::new(config, data.clone(), tokenizer, codes, Box::new(open))?;
    let mut session = job.session(device, Some(folder), &mut preparing(&mut console))?;
    session.notes = notes.into();
    session.run(&mut job, &mut console)?;
    drop(session);

    console.line("3/3 new spectrograms, judged by a classifier that saw only simulated ones");
    let mut quiet = Console::new(true);
    let classes = data.images.classes();
    let batch = classes * SHOWN;
    let mut opened = sample::open(&diffusion_run, batch, &args.device, &mut quiet)?;
    let mut images = vec![];
    let labels: Vec<u32> = (0..batch).map(|i| (i % classes) as u32).collect();
    for round in 0..JUDGED.div_ceil(SHOWN) {
        let how = Request {
            sampler: Sampler::Ancestral,
            steps: Sampler::Ancestral.default_steps(),
            guidance: GUIDANCE,
            temperature: 1.0,
            seed: 0,
            first: (round * batch) as u64,
        };
        images.extend(opened.generator.generate(&mut opened.store, &labels, &how)?.1);
    }
    let shape = data.images.image_shape();
    let first = &images[..batch * data.images.image_len()];
    let sheet = Sheet::new(SHOWN, classes, shape).scaled(3).coloured(Colormap::Perceptual);
    write_png(&out.join("samples.png"), &sheet.draw(first)?)?;
    let judgement = judge(args, &data, &images, &labels)?;
    let names: Vec<_> = (0..classes).map(|c| data.images.class_name(c as u32)).collect();
    tell(&format!("columns of samples.png: {}", names.join(", ")));
    tell(&judgement);
    tell(&format!("{:.0} s in all", started.elapsed().as_secs_f64()));
    super::print(&out.display().to_string())
}

/// The settings with `scale` times as many steps.
fn scaled(name: &str, text: &str, scale: f64) -> Result<Config> {
    let plain = Config::parse(name, text, &[])?;
    let steps = ((plain.train.steps as f64 * scale).ceil() as u64).max(2);
    let warmup = plain.train.warmup.min(steps / 2);
    let sets = [format!("train.steps={steps}"), format!("train.warmup={warmup}")];
    Config::parse(name, text, &sets)
}

/// Accuracy of a classifier trained on the simulated training images: on held-out simulated images,
/// and on the generated ones.
fn judge(args: &Args, data: &Arc<Material>, images: &[f32], labels: &[u32]) -> Result<String> {
    let steps = ((CLASSIFIER_STEPS as f64) * args.scale).ceil() as u64;
    let device = device::open(&args.device.device, args.device.threads)?;
    let mut classifier = Classifier::train(device, data, steps, 0)?;
    let all: Vec<u32> =
        labels.iter().cycle().take(images.len() / data.images.image_len()).copied().collect();
    let generated = classifier.accuracy(images, &all)?;
    let test = &data.split.test;
    let mut held_out = vec![0.0; test.len() * data.images.image_len()];
    data.images.images(test, &mut held_out);
    let known = data.images.labels.as_deref().unwrap_or_default();
    let truth: Vec<u32> = test.iter().map(|&r| known[r as usize]).collect();
    let real = classifier.accuracy(&held_out, &truth)?;
    Ok(format!(
        "recognised: {:.1} % of {} generated images, {:.1} % of {} held-out simulated ones",
        100.0 * generated,
        all.len(),
        100.0 * real,
        truth.len()
    ))
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
