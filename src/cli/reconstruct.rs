//! `vqforge reconstruct`

use super::common::{DeviceArgs, folder, prepared};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vqforge::data::split::Split;
use vqforge::data::write::{to_u8, write_npz};
use vqforge::data::{Dataset, Pixels};
use vqforge::error::{Error, Result};
use vqforge::train::autoencoder::AutoencoderJob;
use vqforge::train::codes::Tokenizer;
use vqforge::train::{Console, Material, Snapshot};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run folder of a VQ-VAE or a KL-VAE
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
    let tokenizer = open(&args.run)?;
    let images = prepared(&tokenizer, &args.data)?;
    // Everything is held out: nothing is trained.
    let all: Vec<u32> = (0..images.n as u32).collect();
    let split = Split { train: all.clone(), test: all, warnings: vec![] };
    let data = Arc::new(Material { images, split });
    let mut job = AutoencoderJob::new(tokenizer.config.clone(), data.clone())?;
    // An unusable folder is told now, and not after the work.
    folder(&args.out)?;
    let mut store = job.evaluator(device, &tokenizer.snapshot)?;
    let (numbers, outputs) = job.reconstruct(&mut store)?;
    let pixels = Pixels::U8(outputs.iter().map(|&v| to_u8(v)).collect());
    let written = Dataset { pixels, ..data.images.clone() };
    write_npz(&args.out.join("reconstructions.npz"), &written)?;
    job.picture(&outputs, &args.out.join("grid.png"))?;
    let mut line = serde_json::json!({ "images": data.images.n });
    for (name, value) in numbers {
        line[name] = serde_json::json!(value);
    }
    let text =
        serde_json::to_string(&line).map_err(|e| Error::failed("cannot write JSON").why(e))?;
    super::print(&text)
}

/// The autoencoder of a run. One without codes goes there and back as well.
fn open(run: &Path) -> Result<Tokenizer> {
    Tokenizer::of_latents(Snapshot::load_best(run)?).map_err(|e| e.at_path(run))
}
