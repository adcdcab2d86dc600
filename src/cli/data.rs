//! `vqforge data info|synth|convert|embed`

use super::common::{simulate, tell};
use std::path::{Path, PathBuf};
use vqforge::config::{Config, Signal};
use vqforge::data::convert::Conversion;
use vqforge::data::decolor::Colours;
use vqforge::data::holdings::Holdings;
use vqforge::data::info::Info;
use vqforge::data::synth::{Preset, SynthSpec};
use vqforge::data::write::write_npz;
use vqforge::error::{Error, Result};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// What is in an npz, npy or mat file or in a folder of PNG images
    Info {
        path: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Simulate micro-Doppler spectrograms
    Synth(Synth),
    /// Signals, spectrograms or pictures into one npz file of ready images
    Convert(Convert),
    /// Texts to vectors of a CLIP text encoder, for data.embeddings
    Embed(super::embed::Embed),
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

#[derive(Debug, clap::Args)]
pub struct Convert {
    /// mat, npy or npz, or a folder of such files or of PNG images, by class
    input: PathBuf,
    /// The chain from signals to images: plain, glasgow, ci4r, fudan, parrad, dopnet, human, rotor
    #[arg(long)]
    preset: Option<String>,
    /// A key of the chain (--set hop=10), or data.labels, size, norm, clip_db, unit, percentiles:
    /// --set data.norm=minmax
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// The array that holds the signals; needs a chain
    #[arg(long)]
    array: Option<String>,
    /// RGB pictures to gray
    #[arg(long)]
    gray: bool,
    /// Coloured pictures back to levels: jet, viridis, parula or turbo
    #[arg(long)]
    decolormap: Option<Colours>,
    /// The npz file to write; default: the input's name with .npz, where there is none yet
    #[arg(long)]
    out: Option<PathBuf>,
}

pub fn run(command: &Command) -> Result<()> {
    match command {
        Command::Info { path, json } => info(path, *json),
        Command::Synth(args) => synth(args),
        Command::Convert(args) => convert(args),
        Command::Embed(args) => super::embed::run(args),
    }
}

/// Files of signals have no images to describe: what they hold is listed instead.
fn info(path: &Path, json: bool) -> Result<()> {
    let broken = |e| Error::failed("cannot write JSON").why(e);
    let holdings = match path.is_file() {
        true => Holdings::read(path)?,
        false => None,
    };
    let text = match (Info::read(path), holdings) {
        (Ok(info), _) if json => serde_json::to_string(&info).map_err(broken)?,
        (Ok(info), _) => info.to_string(),
        (Err(_), Some(holdings)) if json => serde_json::to_string(&holdings).map_err(broken)?,
        (Err(_), Some(holdings)) => holdings.to_string(),
        (Err(error), None) => return Err(error),
    };
    super::print(text.trim_end())
}

fn synth(args: &Synth) -> Result<()> {
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

fn convert(args: &Convert) -> Result<()> {
    let config = args.settings()?;
    let out = match &args.out {
        Some(out) => out.clone(),
        None => beside(&args.input),
    };
    if is_same(&out, &args.input) || (args.out.is_none() && out.exists()) {
        return Err(Error::usage("the output exists")
            .at_path(&out)
            .help("name another file with --out"));
    }
    if args.array.is_some() && config.data.signal.is_none() {
        return Err(Error::usage("--array names signals, and there is no chain for them")
            .help("name one: --preset plain"));
    }
    let preparation = config.data.preparation();
    let conversion = Conversion {
        signal: config.data.transform().cloned(),
        array: args.array.clone(),
        decolormap: args.decolormap,
        gray: args.gray,
        norm: preparation.norm,
    };
    let mut data = conversion.run(&args.input, &preparation.labels)?;
    if let Some((height, width)) = preparation.size {
        data.resize(height, width)?;
    }
    write_npz(&out, &data)?;
    for note in &data.notes {
        tell(note);
    }
    for warning in &data.warnings {
        tell(&format!("warning: {warning}"));
    }
    let (n, h, w, c) = (data.n, data.height, data.width, data.classes());
    tell(&format!("{n} images of {h} x {w}, {c} classes"));
    super::print(&out.display().to_string())
}

/// The archive beside the input: `x.mat` becomes `x.npz`, the folder `set.v2` `set.v2.npz`.
fn beside(input: &Path) -> PathBuf {
    let ending = input.extension().and_then(|e| e.to_str()).unwrap_or_default();
    if input.is_file() && ["mat", "npy", "npz"].iter().any(|e| e.eq_ignore_ascii_case(ending)) {
        return input.with_extension("npz");
    }
    // The name of `.` or `a/..` is that of the folder it stands for.
    let whole = input.canonicalize().unwrap_or_else(|_| input.into());
    let mut name = input.file_name().or(whole.file_name()).unwrap_or_default().to_os_string();
    name.push(".npz");
    match input.file_name() {
        Some(_) => input.with_file_name(name),
        None => whole.with_file_name(name),
    }
}

/// Whether two spellings name one file that is there.
fn is_same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Keys of `[data]` beside those of the chain that a conversion looks at.
const KEYS: [&str; 6] = ["labels", "size", "norm", "clip_db", "unit", "percentiles"];

impl Convert {
    /// The settings of `[data]`: a key without a section is one of the chain.
    fn settings(&self) -> Result<Config> {
        let mut sets = Vec::new();
        if let Some(preset) = &self.preset {
            Signal::preset(preset).map_err(|why| Error::usage(why).at("--preset"))?;
            sets.push(format!("data.signal.preset={preset}"));
        }
        for set in &self.sets {
            let key = set.split('=').next().unwrap_or_default().trim();
            if key.contains('.') {
                let of_data = key.strip_prefix("data.").unwrap_or_default();
                if !KEYS.contains(&of_data) && of_data.split('.').next() != Some("signal") {
                    return Err(Error::usage(format!("a conversion does not look at {key}"))
                        .at(format!("--set {set}"))
                        .help(format!(
                            "use a key of the chain, or data.{}",
                            KEYS.join(", data.")
                        )));
                }
                sets.push(set.clone());
            } else if self.preset.is_some() {
                sets.push(format!("data.signal.{set}"));
            } else {
                return Err(Error::usage(format!("'{set}' changes a chain, and there is none"))
                    .at("--set")
                    .help("name one: --preset plain; or a key of [data]: --set data.norm=minmax"));
            }
        }
        Config::load(None, &sets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_lie_beside_their_input() {
        let dir = std::env::temp_dir().join(format!("vqforge-beside-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("set.v2")).unwrap();
        std::fs::write(dir.join("x.MAT"), b"").unwrap();
        std::fs::write(dir.join("x.day1"), b"").unwrap();
        for (input, want) in [
            ("x.MAT", "x.npz"),
            ("set.v2", "set.v2.npz"),
            ("set.v2/", "set.v2.npz"),
            ("x.day1", "x.day1.npz"),
        ] {
            assert_eq!(beside(&dir.join(input)), dir.join(want), "{input}");
        }
        let folder = dir.canonicalize().unwrap();
        assert_eq!(beside(&dir.join("set.v2/..")), folder.with_extension("npz"));
        assert!(is_same(&dir.join("x.MAT"), &dir.join("set.v2/../x.MAT")));
        assert!(!is_same(&dir.join("x.MAT"), &dir.join("x.day1")));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
