//! `vqforge export` and `vqforge import`: weights to and from diffusers.

use std::path::PathBuf;
use vqforge::error::Result;
use vqforge::interop::runs;

#[derive(Debug, clap::Args)]
pub struct Export {
    /// The run folder of a VQ-VAE or KL-VAE of the family "vqmodel", with one codebook: the other
    /// families (compact, classic) have no form in diffusers
    run: PathBuf,
    /// Folder for config.json and diffusion_pytorch_model.safetensors, as
    /// `VQModel.from_pretrained` or `AutoencoderKL.from_pretrained` reads them
    #[arg(long)]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
pub struct Import {
    /// A folder that `save_pretrained` of VQModel or AutoencoderKL wrote
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
    runs::export(&args.run, &args.out)?;
    super::print(&args.out.display().to_string())
}

pub fn import(args: &Import) -> Result<()> {
    let run = runs::import(&args.folder, &args.out, &args.sets)?;
    super::print(&run.display().to_string())
}
