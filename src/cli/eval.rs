//! `vqforge eval`: how good the samples of a diffusion run are, beside held-out real images.

use super::common::{DeviceArgs, folder, material};
use super::opened::{Followed, Wanted, open as open_run};
use super::protocol::write_json;
use super::sample::BATCH;
use std::path::{Path, PathBuf};
use vqforge::compare::Generation;
use vqforge::config::Config;
use vqforge::data::write::to_u8;
use vqforge::data::{Dataset, Scale};
use vqforge::diffusion::sampler::Sampler;
use vqforge::error::{Error, Result};
use vqforge::metrics::generation::evaluation::Sampling;
use vqforge::metrics::generation::{Circumstances, Evaluation, Pair};
use vqforge::report::{Colormap, Grid as Sheet, Raster, write_png};
use vqforge::train::appraise::{Judge, fitting};
use vqforge::train::codes::{TOKENIZER, Tokenizer};
use vqforge::train::generate::Request;
use vqforge::train::{Console, Material, Snapshot};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run folder of a diffusion: its data, its split, and unless --samples are given its samples
    run: PathBuf,
    /// The data of the run, where they have moved
    #[arg(long, value_name = "PATH")]
    data: Option<String>,
    /// Judge these samples, perhaps of another program: npz or npy with images in [0, 1] or of bytes
    #[arg(long, value_name = "FILE", conflicts_with_all = ["n", "steps", "sampler", "guidance", "seed"])]
    samples: Option<PathBuf>,
    /// Images to make, of all classes in turn
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    n: u32,
    /// Network evaluations; default: the sampler's own
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4095))]
    steps: Option<u32>,
    /// As of `vqforge sample`: ancestral, maskgit, ddim, ...
    #[arg(long, default_value = "ancestral")]
    sampler: String,
    /// Scale of classifier-free guidance; 1: none
    #[arg(long, default_value_t = 1.5)]
    guidance: f32,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    followed: Followed,
    /// Steps of each judging classifier
    #[arg(long, value_name = "N", default_value_t = CLASSIFIER_STEPS, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    classifier_steps: u64,
    /// The result as one JSON object on standard output
    #[arg(long)]
    json: bool,
    /// Folder for eval.json, grid.png and nearest.png; default RUN/eval
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
}

pub(super) const CLASSIFIER_STEPS: u64 = 400;
/// What judges is the same whatever the seed of the samples.
const JUDGE_SEED: u64 = 0;
/// In the run folder.
pub(super) const OUT: &str = "eval";
pub(super) const GRID: &str = "grid.png";
/// In it: classes, and images of each on either side.
const CLASSES_SHOWN: usize = 12;
const EACH_SHOWN: usize = 6;
/// Pixels between the two sides of grid.png, and their gray.
const BETWEEN: usize = 16;
const BETWEEN_LEVEL: u8 = 255;

/// What a diffusion run was trained on.
struct Subject {
    config: Config,
    /// Of the data, as its tokenizer saw them.
    scale: Option<Scale>,
    data: String,
}

impl Args {
    /// A judgement of what a run makes, in its folder.
    pub(super) fn of_run(
        run: &Path,
        how: &Generation,
        sampler: &str,
        seed: u64,
        device: &DeviceArgs,
    ) -> Self {
        Args {
            run: run.into(),
            data: None,
            samples: None,
            n: how.samples,
            steps: how.steps,
            sampler: sampler.into(),
            guidance: how.guidance,
            seed,
            followed: Followed::default(),
            classifier_steps: how.classifier_steps,
            json: false,
            out: None,
            device: device.clone(),
        }
    }
}

pub fn run(args: &Args) -> Result<()> {
    let mut console = Console::new(args.device.quiet);
    let (evaluation, out) = judge(args, &mut console)?;
    match args.json {
        true => super::print(
            &serde_json::to_string(&evaluation)
                .map_err(|e| Error::failed("cannot write JSON").why(e))?,
        ),
        false => super::print(&out.display().to_string()),
    }
}

/// The evaluation, and the folder that it and its pictures were written to.
pub(super) fn judge(args: &Args, console: &mut Console) -> Result<(Evaluation, PathBuf)> {
    let sampler = Sampler::parse(&args.sampler)?;
    if !args.guidance.is_finite() {
        return Err(Error::usage("nothing can be sampled so")
            .at(format!("--guidance {}", args.guidance))
            .help("use a guidance between 1 and 5"));
    }
    let subject = open(args)?;
    drop(args.device.announce(console)?);
    // Samples that cannot be read are told before anything is computed.
    let given = args.samples.as_ref().map(Dataset::open).transpose()?;
    let data = material(&subject.config, &subject.data, subject.scale, console)?;
    let out = args.out.clone().unwrap_or_else(|| args.run.join(OUT));
    folder(&out)?;
    let (samples, sampling) = match given {
        Some(samples) => (fitting(samples, &data.images)?, None),
        None => {
            let (samples, sampling) = generate(args, sampler, console)?;
            (fitting(samples, &data.images)?, Some(sampling))
        }
    };
    let circumstances = Circumstances {
        run: args.run.display().to_string(),
        data: subject.data,
        samples_file: args.samples.as_ref().map(|path| path.display().to_string()),
        sampling,
        ..Circumstances::default()
    };
    let judge = Judge { steps: args.classifier_steps, seed: JUDGE_SEED };
    let (devices, screen) = (args.device.clone(), console.clone());
    let open = || devices.open(None, &screen);
    let mut say = |what: &str| console.progress(what);
    let evaluation = judge.appraise(&data, &samples, circumstances, &open, &mut say)?;
    write_json(&out.join("eval.json"), &evaluation)?;
    write_png(&out.join(GRID), &beside(&samples, &data)?)?;
    write_png(&out.join("nearest.png"), &nearest(&samples, &data, &evaluation)?)?;
    evaluation.table().iter().for_each(|line| console.line(line));
    console.line("grid.png: samples left, held-out images right; a row a class");
    console
        .line("nearest.png: samples above their nearest training images, by features, by pixels");
    Ok((evaluation, out))
}

/// The run's settings and the name of its data.
fn open(args: &Args) -> Result<Subject> {
    let snapshot = Snapshot::load_best(&args.run)?;
    match snapshot.meta("kind")? {
        "diffusion" => {}
        kind @ ("vqvae" | "klvae") => {
            return Err(Error::usage(format!("this is a {kind} run: it generates nothing"))
                .at_path(&args.run)
                .help(
                    "judge its reconstructions with `vqforge reconstruct`, or name a diffusion run",
                ));
        }
        kind => {
            return Err(Error::usage(format!("this is a {kind} run"))
                .at_path(&args.run)
                .help("name the run folder of `vqforge train diffusion`"));
        }
    }
    let config = Config::parse("checkpoint", snapshot.meta("config")?, &[])?;
    let tokenizer = Snapshot::load(&args.run.join(TOKENIZER))?;
    let own = Config::parse("checkpoint", tokenizer.meta("config")?, &[])?;
    let scale = Tokenizer { config: own, snapshot: tokenizer }.scale()?;
    let data = match &args.data {
        Some(data) => data.clone(),
        None => {
            let known = snapshot.meta("data").map_err(|e| e.help("name them: --data PATH"));
            known?.to_string()
        }
    };
    Ok(Subject { config, scale, data })
}

/// Samples as `vqforge sample` makes and writes them.
fn generate(args: &Args, sampler: Sampler, console: &mut Console) -> Result<(Dataset, Sampling)> {
    let n = args.n as usize;
    let mut opened = open_run(&args.run, n.min(BATCH), &args.device, &mut Console::new(true))?;
    let embeddings = args.followed.embeddings(&args.run, &opened, &args.device, console)?;
    let classes = opened.grid.classes;
    let steps = args.steps.map_or(opened.generator.default_steps(sampler), |steps| steps as usize);
    let labels: Vec<u32> = (0..n).map(|i| (i % classes.max(1)) as u32).collect();
    let how = Request { guidance: args.guidance, seed: args.seed, ..Request::new(sampler, steps) };
    let wanted = Wanted { embeddings: embeddings.as_ref(), ..Wanted::new(&labels, how) };
    let mut pixels = vec![];
    opened.make(&wanted, console, &mut |_, made| {
        pixels.extend(made.iter().map(|&v| to_u8(v)));
        Ok(())
    })?;
    let [h, w, c] = opened.shape;
    let labels = (classes > 0).then_some(labels);
    let data = Dataset::from_u8(pixels, [n, h, w, c], labels, opened.class_names, "samples")?;
    let guidance = f64::from(args.guidance);
    let sampler = args.sampler.clone();
    Ok((data, Sampling { sampler, steps, guidance, seed: args.seed }))
}

/// Samples on the left, held-out images on the right, a row for each class.
fn beside(samples: &Dataset, data: &Material) -> Result<Raster> {
    let (images, test) = (&data.images, &data.split.test);
    let all: Vec<u32> = (0..samples.n as u32).collect();
    let classed = samples.labels.is_some() && images.labels.is_some();
    let rows = if classed { images.classes().clamp(1, CLASSES_SHOWN) } else { EACH_SHOWN };
    let side = |set: &Dataset, of: &[u32]| -> Result<Raster> {
        let (mut left, mut pixels) = (of.to_vec(), vec![]);
        for row in 0..rows as u32 {
            let fits = |i: u32| match &set.labels {
                Some(labels) if classed => labels[i as usize] == row,
                _ => true,
            };
            let own: Vec<u32> =
                left.iter().copied().filter(|&i| fits(i)).take(EACH_SHOWN).collect();
            left.retain(|i| !own.contains(i));
            // Cells without an image are black.
            let mut cells = vec![0.0; EACH_SHOWN * set.image_len()];
            set.images(&own, &mut cells);
            pixels.extend(cells);
        }
        sheet(rows, EACH_SHOWN, set).draw(&pixels)
    };
    let (left, right) = (side(samples, &all)?, side(images, test)?);
    let gap = vec![BETWEEN_LEVEL; BETWEEN * left.channels];
    let mut pixels = vec![];
    let lines = |raster: &Raster| raster.width * raster.channels;
    let pairs = left.pixels.chunks(lines(&left)).zip(right.pixels.chunks(lines(&right)));
    for (left, right) in pairs {
        pixels.extend([left, &gap, right].concat());
    }
    Ok(Raster { width: left.width + BETWEEN + right.width, pixels, ..left })
}

/// The samples that are nearest to training images above those: by features, and below by pixels.
fn nearest(samples: &Dataset, data: &Material, evaluation: &Evaluation) -> Result<Raster> {
    let memory = &evaluation.memorisation;
    let lists = [&memory.nearest_in_features, &memory.nearest_in_pixels];
    let columns = lists.iter().map(|pairs| pairs.len()).max().unwrap_or(0).max(1);
    let len = samples.image_len();
    let mut pixels = vec![];
    for pairs in lists {
        let mut of = |set: &Dataset, row: fn(&Pair) -> u32| {
            let rows: Vec<u32> = pairs.iter().map(row).collect();
            let mut cells = vec![0.0; columns * len];
            set.images(&rows, &mut cells);
            pixels.extend(cells);
        };
        of(samples, |pair| pair.sample);
        of(&data.images, |pair| pair.training);
    }
    sheet(4, columns, samples).draw(&pixels)
}

/// Doubled where images are small.
fn sheet(rows: usize, columns: usize, images: &Dataset) -> Sheet {
    let scale = if images.height.max(images.width) <= 128 { 2 } else { 1 };
    Sheet::new(rows, columns, images.image_shape()).scaled(scale).coloured(Colormap::Perceptual)
}
