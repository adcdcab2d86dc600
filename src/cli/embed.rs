//! `vqforge data embed`: texts to the vectors that a denoiser is told of them.

use super::common::{DeviceArgs, tell};
use std::path::PathBuf;
use vqforge::data::write::write_npy;
use vqforge::error::{Error, Result};
use vqforge::interop::text::TextEncoder;
use vqforge::train::Console;

#[derive(Debug, clap::Args)]
pub struct Embed {
    /// A text file, one text a line
    texts: PathBuf,
    /// The folder of a CLIP text model and its tokenizer, as transformers or diffusers saved them
    #[arg(long)]
    text_encoder: PathBuf,
    /// The npy file to write, [texts, tokens, width]
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: &Embed) -> Result<()> {
    let all = std::fs::read_to_string(&args.texts)
        .map_err(|e| Error::data("the texts cannot be read").at_path(&args.texts).why(e))?;
    let texts: Vec<String> = all.lines().map(str::to_string).collect();
    if texts.is_empty() {
        return Err(Error::data("there are no texts").at_path(&args.texts).help("one a line"));
    }
    let mut console = Console::new(args.device.quiet);
    let mut encoder = TextEncoder::open(&args.text_encoder, args.device.announce(&mut console)?)?;
    let [length, width] = encoder.shape();
    let vectors = encoder.embed(&texts)?;
    write_npy(&args.out, &[texts.len(), length, width], &vectors)?;
    tell(&format!("{} texts as {length} vectors of {width}", texts.len()));
    super::print(&args.out.display().to_string())
}
