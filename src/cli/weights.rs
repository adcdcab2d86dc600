//! `vqforge export` and `vqforge import`: weights to and from diffusers.

use std::path::PathBuf;
use vqforge::error::Result;
use vqforge::interop::{pipeline, runs};
use vqforge::train::Snapshot;

#[derive(Debug, clap::Args)]
pub struct Export {
    /// The run folder of a VQ-VAE or KL-VAE of the family "vqmodel", with one codebook: the other
    /// families (compact, classic) have no form in diffusers. Or of a diffusion over the codes of one, with
    /// denoiser.kind = "vq-diffusion" and texts
    run: PathBuf,
    /// Folder for config.json and diffusion_pytorch_model.safetensors, as
    /// `VQModel.from_pretrained` or `AutoencoderKL.from_pretrained` reads them
    #[arg(long)]
    out: PathBuf,
    /// Of a diffusion: the folder with the text_encoder/ and tokenizer/ that its embeddings were made with;
    /// an imported run has its own
    #[arg(long)]
    text_encoder: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub struct Import {
    /// A folder that `save_pretrained` of VQModel, AutoencoderKL or VQDiffusionPipeline wrote
    folder: PathBuf,
    /// The run folder to make: for reconstruct, as --tokenizer, or to be trained further with
    /// `vqforge train vqvae --resume RUN --data PATH`
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// A setting other than those of the model: section.key=value, for example data.norm=minmax
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
}

pub fn export(args: &Export) -> Result<()> {
    if Snapshot::load_best(&args.run)?.meta("kind")? == "diffusion" {
        pipeline::export(&args.run, &args.out, args.text_encoder.as_deref())?;
    } else {
        runs::export(&args.run, &args.out)?;
    }
    super::print(&args.out.display().to_string())
}

pub fn import(args: &Import) -> Result<()> {
    let run = match pipeline::is_pipeline(&args.folder) {
        true => pipeline::import(&args.folder, &args.out, &args.sets)?,
        false => runs::import(&args.folder, &args.out, &args.sets)?,
    };
    super::print(&run.display().to_string())
}
