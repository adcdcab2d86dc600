//! `vqforge sample`

use super::common::{DeviceArgs, folder};
use super::inpaint::{Given, Region, region};
use super::opened::{Followed, Opened, Wanted, open};
use std::path::PathBuf;
use vqforge::data::Dataset;
use vqforge::data::write::{to_u8, write_npy, write_npz};
use vqforge::diffusion::sampler::{GuidanceSchedule, Pace, Sampler};
use vqforge::error::{Error, Result};
use vqforge::report::{ClassFolders, Colormap, Grid as Sheet, Raster, write_png};
use vqforge::train::Console;
use vqforge::train::generate::Request;

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
    /// How guidance grows from none to its scale over the run: constant, linear or cosine
    #[arg(long, default_value = "constant")]
    guidance_schedule: String,
    /// Network evaluations; default: the sampler's own
    #[arg(long, value_parser = between(1, 4095))]
    steps: Option<usize>,
    /// Of codes: ancestral, maskgit, first-hitting, halton, remdm or purity; of latents: ancestral or ddim
    #[arg(long, default_value = "ancestral")]
    sampler: String,
    /// For ddim: the share of fresh noise, from 0, none, to 1, as ancestral adds
    #[arg(long)]
    eta: Option<f64>,
    /// Times of ancestral and remdm: trained, linear or cosine (small steps first)
    #[arg(long, default_value = "trained")]
    grid: String,
    /// Above 1: more varied, below 1: more typical
    #[arg(long, default_value_t = 1.0)]
    temperature: f32,
    /// Draw only from the likeliest codes that have this share of the probability together (the
    /// truncation of VQ-Diffusion, which takes 0.86); cut off after guidance
    #[arg(long, visible_alias = "truncation", default_value_t = 1.0)]
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
    /// Larger images than those of training: rows and columns of pixels as 128x256, made window by
    /// window, each given what those before it made. Best where the data look alike everywhere along
    /// that side: the denoiser knows no places outside of its window
    #[arg(long, conflicts_with = "inpaint", value_parser = size)]
    size: Option<[usize; 2]>,
    /// Also write every sample as a PNG file of its own: OUT/CLASS/00000.png
    #[arg(long)]
    folders: bool,
    #[command(flatten)]
    followed: Followed,
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
pub const BATCH: usize = 32;
/// Samples in the picture at most,
const SHOWN: usize = 256;
/// and pixels of all samples in it, before each is drawn as four.
const SHOWN_PIXELS: usize = 1 << 23;

pub fn run(args: &Args) -> Result<()> {
    let sampler = Sampler::parse(&args.sampler)?;
    let sampler = args.eta.map_or(Ok(sampler), |eta| sampler.with_eta(eta))?;
    let pace = Pace::parse(&args.grid)?;
    let schedule = GuidanceSchedule::parse(&args.guidance_schedule)?;
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
    let mut opened = open(&args.run, args.n.min(BATCH), &args.device, &mut console)?;
    let count = opened.grid.classes.max(1) as u32;
    let only = args.class.as_deref().map(|c| class_number(c, &opened.class_names)).transpose()?;
    let given = match (&args.inpaint, args.region) {
        (Some(path), Some(region)) => {
            opened.generator.can_inpaint("--inpaint")?;
            let tokenizer = &opened.tokenizer;
            Some(Given::open(tokenizer, path, region, opened.shape, &args.device, &mut console)?)
        }
        _ => None,
    };
    let embeddings = args.followed.embeddings(&args.run, &opened, &args.device, &mut console)?;
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
    let (places, shape) = places(args.size, &opened)?;
    if args.folders && !matches!(shape[2], 1 | 3) {
        return Err(Error::usage(format!("an image of {} channels is no PNG file", shape[2]))
            .at("--folders")
            .help("leave it out: samples.npz holds all channels"));
    }
    // An unusable folder is told now, and not after hours of sampling.
    folder(&args.out)?;
    let mut folders = match args.folders {
        true => Some(ClassFolders::new(&args.out, &folder_names(&opened), args.n)?),
        false => None,
    };
    let len: usize = shape.iter().product();
    let sheet = sheet(args.n, shape);
    let drawn = sheet.rows * sheet.columns * len;
    let known = opened.provenance.clone().filter(|_| args.db);
    let (mut pixels, mut shown, mut levels) = (vec![], vec![], vec![]);
    let how = Request {
        sampler,
        steps: args.steps.unwrap_or(opened.generator.default_steps(sampler)),
        pace,
        guidance_schedule: schedule,
        guidance: args.guidance,
        temperature: args.temperature,
        top_p: args.top_p,
        top_k: args.top_k,
        seed: args.seed,
        first: 0,
    };
    let (embeddings, given) = (embeddings.as_ref(), given.as_ref());
    let wanted = Wanted { labels: &labels, how, embeddings, places, given };
    opened.make(&wanted, &mut console, &mut |first, made| {
        pixels.extend(made.iter().map(|&v| to_u8(v)));
        if let Some(folders) = &mut folders {
            let [height, width, channels] = shape;
            for (image, &class) in pixels[first * len..].chunks_exact(len).zip(&labels[first..]) {
                let image = Raster { width, height, channels, pixels: image.to_vec() };
                folders.write(class as usize, &image)?;
            }
        }
        shown.extend_from_slice(&made[..made.len().min(drawn.saturating_sub(shown.len()))]);
        let decibels = known.as_ref().and_then(|p| p.to_db(made)).unwrap_or_default();
        levels.extend(decibels.into_iter().map(|v| v as f32));
        Ok(())
    })?;
    let [h, w, c] = shape;
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
    let more = if args.folders { ", a folder a class" } else { "" };
    console.line(&format!("{} samples of {h}x{w}: grid.png, samples.npz{more}", args.n));
    super::print(&args.out.display().to_string())
}

/// The places of the latent grid, where a size is asked for, and the shape of an image.
fn places(size: Option<[usize; 2]>, opened: &Opened) -> Result<(Option<[usize; 2]>, [usize; 3])> {
    let [height, width, channels] = opened.shape;
    let Some([rows, cols]) = size else { return Ok((None, opened.shape)) };
    let r = opened.tokenizer.config.model.reduction();
    if rows < height || cols < width || !rows.is_multiple_of(r) || !cols.is_multiple_of(r) {
        let up = |side: usize, least: usize| side.max(least).next_multiple_of(r);
        return Err(Error::usage(format!("images of {rows} x {cols} cannot be made"))
            .at("--size")
            .why(format!(
                "it must be {height} x {width}, the size of training, or more, in multiples of {r}"
            ))
            .help(format!("use --size {}x{}", up(rows, height), up(cols, width))));
    }
    Ok((Some([rows / r, cols / r]), [rows, cols, channels]))
}

/// `128x256`: rows, then columns.
fn size(text: &str) -> std::result::Result<[usize; 2], String> {
    let side = |text: &str| text.trim().parse().ok().filter(|side| (1..=1 << 16).contains(side));
    let sides = text.split_once('x').and_then(|(rows, cols)| Some([side(rows)?, side(cols)?]));
    sides.ok_or_else(|| "write rows and columns of pixels as 128x256".into())
}

/// Names of all classes; of a diffusion without classes one for all samples.
fn folder_names(opened: &Opened) -> Vec<String> {
    let name =
        |class: usize| opened.class_names.get(class).cloned().unwrap_or_else(|| class.to_string());
    match opened.grid.classes {
        0 => vec!["samples".into()],
        classes => (0..classes).map(name).collect(),
    }
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

    #[test]
    fn sizes_are_read() {
        assert_eq!(size("128x256"), Ok([128, 256]));
        for bad in ["", "128", "0x4", "128x", "128x256x3", "-1x4", "70000x4"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

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
