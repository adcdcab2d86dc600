//! `vqforge sample`

use super::common::{DeviceArgs, folder};
use super::inpaint::{Given, Region, region};
use super::latents;
use super::train::TOKENIZER;
use std::path::{Path, PathBuf};
use vqforge::config::{Config, Process};
use vqforge::data::Dataset;
use vqforge::data::provenance::Provenance;
use vqforge::data::write::{to_u8, write_npy, write_npz};
use vqforge::diffusion::Corruption;
use vqforge::diffusion::sampler::Sampler;
use vqforge::error::{Error, Result};
use vqforge::model::denoiser::Grid;
use vqforge::model::{Scope, denoiser};
use vqforge::plan::{ParamTable, Store, Weights};
use vqforge::report::{Colormap, Grid as Sheet, write_png};
use vqforge::tape::Tape;
use vqforge::train::codes::Tokenizer;
use vqforge::train::generate::{Generator, Request};
use vqforge::train::maker::Maker;
use vqforge::train::{Console, Snapshot};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run folder of a diffusion
    run: PathBuf,
    /// Images to make
    #[arg(long, default_value_t = 64, value_parser = between(1, 1_000_000))]
    n: usize,
    /// Only this class: its name or number; default: all in turn
    #[arg(long)]
    class: Option<String>,
    /// Scale of classifier-free guidance; 1: none
    #[arg(long, default_value_t = 1.5)]
    guidance: f32,
    /// Network evaluations; default: the sampler's own
    #[arg(long, value_parser = between(1, 4095))]
    steps: Option<usize>,
    /// Of codes: ancestral, maskgit, first-hitting, halton or remdm; of latents: ancestral or ddim
    #[arg(long, default_value = "ancestral")]
    sampler: String,
    /// For ddim: the share of fresh noise, from 0, none, to 1, as ancestral adds
    #[arg(long)]
    eta: Option<f64>,
    /// Above 1: more varied, below 1: more typical
    #[arg(long, default_value_t = 1.0)]
    temperature: f32,
    /// Draw only from the likeliest codes that have this share of the probability together
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,
    /// Draw only from so many of the likeliest codes; 0: from all
    #[arg(long, default_value_t = 0)]
    top_k: u32,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Images of which a region is made anew: npz, npy, mat or a folder; taken in turn
    #[arg(long, requires = "region")]
    inpaint: Option<String>,
    /// What is made anew: rows and columns of pixels as 0:64,32:48
    #[arg(long, requires = "inpaint", value_parser = region)]
    region: Option<Region>,
    /// Also write samples_db.npy, the samples in decibels, where the training data were spectrograms
    /// whose scale is known
    #[arg(long)]
    db: bool,
    /// Folder for samples.npz, and for grid.png with the first 256 of them
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Samples made at once.
const BATCH: usize = 32;
/// Samples in the picture at most,
const SHOWN: usize = 256;
/// and pixels of all samples in it, before each is drawn as four.
const SHOWN_PIXELS: usize = 1 << 23;

/// A diffusion run opened for sampling.
pub struct Opened {
    pub store: Store,
    pub generator: Maker,
    pub grid: Grid,
    pub class_names: Vec<String>,
    pub tokenizer: Tokenizer,
    pub shape: [usize; 3],
    /// How the pixels of the training images came to be, where the tokenizer knows.
    pub provenance: Option<Provenance>,
}

/// Opens the best checkpoint of a diffusion run for batches of `n` samples.
pub fn open(run: &Path, n: usize, device: &DeviceArgs, console: &mut Console) -> Result<Opened> {
    let snapshot = Snapshot::load_best(run)?;
    if snapshot.meta("kind")? != "diffusion" {
        return Err(Error::usage(format!("{} is a {} run", run.display(), snapshot.meta("kind")?))
            .help("sample from the run folder of `vqforge train diffusion`"));
    }
    let config = Config::parse("checkpoint", snapshot.meta("config")?, &[])?;
    if config.diffusion.process == Process::Gaussian {
        return latents::open(run, &snapshot, &config, n, device, console);
    }
    let tokenizer = Tokenizer::from_snapshot(Snapshot::load(&run.join(TOKENIZER))?)?;
    let parsed: [usize; 4] = parse(&snapshot, "grid")?;
    let [rows, cols, codes, classes] = parsed;
    let times = Corruption::new(&config.diffusion, codes)?.times();
    let grid = Grid { rows, cols, codes, classes, times };
    let class_names: Vec<String> = parse(&snapshot, "class_names")?;
    // Registers the parameters; the generator records its own tape against them.
    let (mut tape, mut table) = (Tape::new(), ParamTable::default());
    let mut s = Scope::new(&mut tape, &mut table);
    let tokens = s.tape.input_idx("tokens", &[grid.tokens()])?;
    let class = s.tape.input_idx("class", &[1])?;
    denoiser::logits(&mut s, &config.denoiser, grid, 1, tokens, class)?;
    let mut store = Store::new(device.announce(console)?, table, 0)?;
    snapshot.restore(&mut store)?;
    let weights = if config.train.ema_decay > 0.0 { Weights::Average } else { Weights::Current };
    let second = device.open(None, console)?;
    let generator = Generator::new(&config, grid, n, weights, &mut store, &tokenizer, second)?;
    let r = tokenizer.config.model.reduction();
    let shape = [rows * r, cols / tokenizer.heads() * r, tokenizer.config.model.out_channels];
    let (generator, provenance) = (Maker::Tokens(generator), tokenizer.provenance()?);
    Ok(Opened { store, generator, grid, class_names, tokenizer, shape, provenance })
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(snapshot: &Snapshot, key: &str) -> Result<T> {
    serde_json::from_str(snapshot.meta(key)?)
        .map_err(|e| Error::disk(format!("the checkpoint's {key} cannot be read")).why(e))
}

pub fn run(args: &Args) -> Result<()> {
    let sampler = Sampler::parse(&args.sampler)?;
    let sampler = args.eta.map_or(Ok(sampler), |eta| sampler.with_eta(eta))?;
    if !(args.temperature > 0.0 && args.temperature.is_finite() && args.guidance.is_finite()) {
        return Err(Error::usage("nothing can be sampled so")
            .at(format!("--temperature {} --guidance {}", args.temperature, args.guidance))
            .help("use a temperature above 0, often 1, and a guidance between 1 and 5"));
    }
    if !(args.top_p > 0.0 && args.top_p <= 1.0) {
        return Err(Error::usage("no share of the probability is left to draw from")
            .at(format!("--top-p {}", args.top_p))
            .help("use a share above 0 and up to 1, for example 0.86"));
    }
    let mut console = Console::new(args.device.quiet);
    let batch = args.n.min(BATCH);
    let mut opened = open(&args.run, batch, &args.device, &mut console)?;
    let count = opened.grid.classes.max(1) as u32;
    let only = args.class.as_deref().map(|c| class_number(c, &opened.class_names)).transpose()?;
    let given = match (&args.inpaint, args.region) {
        (Some(path), Some(region)) => {
            opened.generator.can_inpaint()?;
            let tokenizer = &opened.tokenizer;
            Some(Given::open(tokenizer, path, region, opened.shape, &args.device, &mut console)?)
        }
        _ => None,
    };
    // The class that is asked for, that of the image, or all in turn.
    let label = |i: usize| {
        let own = given.as_ref().and_then(|g| g.label(i)).filter(|&l| l < count);
        only.or(own).unwrap_or(i as u32 % count)
    };
    let labels: Vec<u32> = (0..args.n).map(label).collect();
    if args.db && opened.provenance.as_ref().is_none_or(|p| p.to_db(&[]).is_none()) {
        return Err(Error::usage("these samples cannot be turned into decibels")
            .at("--db")
            .why("the training data did not say how their pixels came to be")
            .help("train on signals ([data.signal]) or with data.norm = \"max-db\""));
    }
    // An unusable folder is told now, and not after hours of sampling.
    folder(&args.out)?;
    let len: usize = opened.shape.iter().product();
    let sheet = sheet(args.n, opened.shape);
    let drawn = sheet.rows * sheet.columns * len;
    let known = opened.provenance.as_ref().filter(|_| args.db);
    let (mut pixels, mut shown, mut levels) = (vec![], vec![], vec![]);
    for (at, chunk) in labels.chunks(batch).enumerate() {
        let first = at * batch;
        console.progress(&format!("sampled {first} of {}", args.n));
        let classes: Vec<u32> = (0..batch).map(|i| chunk[i.min(chunk.len() - 1)]).collect();
        let how = Request {
            sampler,
            steps: args.steps.unwrap_or(opened.generator.default_steps(sampler)),
            guidance: args.guidance,
            temperature: args.temperature,
            top_p: args.top_p,
            top_k: args.top_k,
            seed: args.seed,
            first: first as u64,
        };
        let tokens = given.as_ref().map(|g| g.tokens(first, batch)).unwrap_or_default();
        let made = opened.generator.generate(&mut opened.store, &classes, &tokens, &how)?.1;
        let made = &made[..chunk.len() * len];
        pixels.extend(made.iter().map(|&v| to_u8(v)));
        shown.extend_from_slice(&made[..made.len().min(drawn.saturating_sub(shown.len()))]);
        let decibels = known.and_then(|p| p.to_db(made)).unwrap_or_default();
        levels.extend(decibels.into_iter().map(|v| v as f32));
    }
    let [h, w, c] = opened.shape;
    let shape = [args.n, h, w, c];
    let labels = (opened.grid.classes > 0).then_some(labels);
    let mut data = Dataset::from_u8(pixels, shape, labels, opened.class_names.clone(), "samples")?;
    if let Some(provenance) = &opened.provenance {
        data.signal.clone_from(&provenance.signal);
        data.scale = provenance.scale;
    }
    write_npz(&args.out.join("samples.npz"), &data)?;
    if args.db {
        write_npy(&args.out.join("samples_db.npy"), &shape, &levels)?;
    }
    write_png(&args.out.join("grid.png"), &sheet.draw(&shown)?)?;
    console.line(&format!("{} samples of {h}x{w}: grid.png, samples.npz", args.n));
    super::print(&args.out.display().to_string())
}

/// The picture of the first of `n` samples: never so large that it cannot be drawn.
fn sheet(n: usize, shape: [usize; 3]) -> Sheet {
    let most = (SHOWN_PIXELS / (shape[0] * shape[1]).max(1)).clamp(1, SHOWN);
    Sheet::square(n.min(most), shape).scaled(2).coloured(Colormap::Perceptual)
}

fn between(least: u64, most: u64) -> impl Fn(&str) -> std::result::Result<usize, String> + Clone {
    move |text| match text.parse::<u64>() {
        Ok(n) if (least..=most).contains(&n) => Ok(n as usize),
        _ => Err(format!("use a whole number from {least} to {most}")),
    }
}

fn class_number(wanted: &str, names: &[String]) -> Result<u32> {
    let by_name = names.iter().position(|n| n == wanted);
    let by_number = wanted.parse::<usize>().ok().filter(|&i| i < names.len());
    by_name.or(by_number).map(|i| i as u32).ok_or_else(|| {
        let error = Error::usage(format!("the run has no class {wanted}"));
        match names {
            [] => error.why("it was trained without labels").help("leave --class away"),
            _ => error.help(format!("use a number or one of: {}", names.join(", "))),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any number of samples of any size gives a picture that can be drawn.
    #[test]
    fn pictures_are_bounded() {
        for (n, shape, cells) in [
            (1_000_000, [64, 64, 1], [16, 16]),
            (64, [64, 64, 3], [8, 8]),
            (3, [128, 32, 1], [2, 2]),
            (1_000_000, [2048, 2048, 1], [1, 2]),
        ] {
            let sheet = sheet(n, shape);
            assert_eq!([sheet.rows, sheet.columns], cells);
            let size = sheet.draw(&[]).map(|raster| raster.width).unwrap();
            assert_eq!(size, cells[1] * 2 * shape[1] + 2 * (cells[1] - 1));
        }
    }
}
