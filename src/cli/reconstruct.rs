//! `vqforge reconstruct`

use super::common::{DeviceArgs, folder, load};
use std::path::PathBuf;
use std::sync::Arc;
use vqforge::data::split::Split;
use vqforge::data::write::{to_u8, write_npz};
use vqforge::data::{Dataset, Pixels};
use vqforge::error::{Error, Result};
use vqforge::train::autoencoder::AutoencoderJob;
use vqforge::train::codes::Tokenizer;
use vqforge::train::{Console, Material};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run folder of a VQ-VAE
    run: PathBuf,
    /// npz, npy, mat, a folder of such files or of PNG images, or synth:human, synth:rotor
    #[arg(long)]
    data: String,
    /// Folder for grid.png and reconstructions.npz
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: &Args) -> Result<()> {
    let mut console = Console::new(args.device.quiet);
    let device = args.device.announce(&mut console)?;
    let tokenizer = Tokenizer::open(&args.run)?;
    let preparation = tokenizer.config.data.preparation();
    let mut images = load(&tokenizer.config, &args.data)?;
    match tokenizer.scale()? {
        Some(scale) => images.apply(scale)?,
        None => images.normalise(&preparation.norm, None)?,
    }
    if let Some((h, w)) = preparation.size {
        images.resize(h, w)?;
    }
    // Everything is held out: nothing is trained.
    let all: Vec<u32> = (0..images.n as u32).collect();
    let split = Split { train: all.clone(), test: all, warnings: vec![] };
    let data = Arc::new(Material { images, split });
    let mut job = AutoencoderJob::new(tokenizer.config.clone(), data.clone())?;
    let mut store = job.evaluator(device, &tokenizer.snapshot)?;
    let (numbers, outputs) = job.reconstruct(&mut store)?;
    folder(&args.out)?;
    job.picture(&outputs, &args.out.join("grid.png"))?;
    let pixels = Pixels::U8(outputs.iter().map(|&v| to_u8(v)).collect());
    let written = Dataset { pixels, ..data.images.clone() };
    write_npz(&args.out.join("reconstructions.npz"), &written)?;
    let mut line = serde_json::json!({ "images": data.images.n });
    for (name, value) in numbers {
        line[name] = serde_json::json!(value);
    }
    let text =
        serde_json::to_string(&line).map_err(|e| Error::failed("cannot write JSON").why(e))?;
    super::print(&text)
}
