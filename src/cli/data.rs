//! `vqforge data info|synth`

use super::common::{simulate, tell};
use std::path::PathBuf;
use vqforge::data::info::Info;
use vqforge::data::synth::{Preset, SynthSpec};
use vqforge::data::write::write_npz;
use vqforge::error::{Error, Result};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// What is in an npz or npy file or in a folder of PNG images
    Info {
        path: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Simulate micro-Doppler spectrograms
    Synth(Synth),
}

#[derive(Debug, clap::Args)]
pub struct Synth {
    /// human or rotor
    #[arg(long, default_value = "human")]
    preset: Preset,
    /// Images
    #[arg(long, default_value_t = 1000)]
    n: usize,
    /// Rows and columns: 32, 64 or 128
    #[arg(long, default_value_t = 64)]
    size: usize,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Noise floor below the peak in dB; default: as the preset's radar
    #[arg(long)]
    floor: Option<f64>,
    /// The npz file to write
    #[arg(long)]
    out: PathBuf,
}

pub fn run(command: &Command) -> Result<()> {
    match command {
        Command::Info { path, json } => {
            let info = Info::read(path)?;
            let text = match json {
                true => serde_json::to_string(&info)
                    .map_err(|e| Error::failed("cannot write JSON").why(e))?,
                false => info.to_string(),
            };
            super::print(text.trim_end())
        }
        Command::Synth(args) => {
            let spec = SynthSpec {
                preset: args.preset,
                size: args.size,
                n: args.n,
                seed: args.seed,
                floor_db: args.floor.map(|f| (f, f)),
                classes: None,
            };
            let data = simulate(&spec)?;
            write_npz(&args.out, &data)?;
            tell(&format!("{} images of {} classes", data.n, data.classes()));
            super::print(&args.out.display().to_string())
        }
    }
}
