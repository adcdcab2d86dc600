//! `vqforge train vqvae|diffusion`

use super::common::{DeviceArgs, material, preparing};
use std::io::Write;
use std::path::{Path, PathBuf};
use vqforge::config::Config;
use vqforge::data::atomic::write_atomically;
use vqforge::error::{Error, Result};
use vqforge::train::codes::{Tokenizer, cached};
use vqforge::train::diffusion::DiffusionJob;
use vqforge::train::vqvae::VqVaeJob;
use vqforge::train::{Console, Job, RunFolder, Session, Snapshot, stop};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// An autoencoder with a codebook
    Vqvae(Common),
    /// Masked diffusion over the codes of a VQ-VAE run
    Diffusion {
        #[command(flatten)]
        common: Common,
        /// The run folder of the VQ-VAE; a resumed run has its own copy
        #[arg(long)]
        tokenizer: Option<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
pub struct Common {
    /// Settings, TOML; a resumed run has its own copy
    config: Option<PathBuf>,
    /// Override a setting: section.key=value
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// npz, npy, a folder of PNG images, or synth:human, synth:rotor
    #[arg(long)]
    data: String,
    /// Run folder; default runs/<name>
    #[arg(long)]
    out: Option<PathBuf>,
    /// Continue the run in this folder, or `auto`: the one in --out if there is one
    #[arg(long, value_name = "auto|RUN")]
    resume: Option<String>,
    /// Prepare everything, run one step, write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

pub const TOKENIZER: &str = "tokenizer.safetensors";
const CODES: &str = "codes.safetensors";

pub fn run(command: &Command) -> Result<()> {
    stop::install()?;
    match command {
        Command::Vqvae(common) => vqvae(common),
        Command::Diffusion { common, tokenizer } => diffusion(common, tokenizer.as_deref()),
    }
}

/// Settings, and the checkpoint to continue from.
struct Start {
    config: Config,
    snapshot: Option<Snapshot>,
    folder: Option<RunFolder>,
}

impl Common {
    /// The folder of the run to continue, if there is one.
    fn resumed(&self) -> Result<Option<PathBuf>> {
        match self.resume.as_deref() {
            None => Ok(None),
            Some("auto") => {
                let Some(out) = &self.out else {
                    return Err(Error::usage("--resume auto needs --out")
                        .help("name the run folder: --out RUN, or --resume RUN"));
                };
                let started = out.join("checkpoints").read_dir();
                let any =
                    started.is_ok_and(|mut d| d.any(|f| f.is_ok_and(|f| is_checkpoint(&f.path()))));
                Ok(any.then(|| out.clone()))
            }
            Some(run) => Ok(Some(PathBuf::from(run))),
        }
    }

    fn start(&self, console: &mut Console) -> Result<Start> {
        if let Some(run) = self.resumed()? {
            let folder = RunFolder::open(&run)?;
            folder.attach(console)?;
            let (snapshot, path, damaged) = Snapshot::load_last(&run)?;
            if let Some(e) = damaged {
                console.line(&format!("warning: {e}"));
            }
            console.line(&format!("resuming {} at step {}", path.display(), snapshot.step()?));
            let config = Config::parse("checkpoint", snapshot.meta("config")?, &self.sets)?;
            return Ok(Start { config, snapshot: Some(snapshot), folder: Some(folder) });
        }
        let Some(path) = &self.config else {
            return Err(Error::usage("no settings were given")
                .help("name a TOML file, for example configs/radar_vqvae.toml"));
        };
        let config = Config::load(Some(path), &self.sets)?;
        let folder = match self.dry_run {
            true => None,
            // `--resume auto` may find a folder that a killed process left without a checkpoint.
            false if self.resume.is_some() => {
                Some(RunFolder::reuse(self.out.as_deref(), &config.name)?)
            }
            false => Some(RunFolder::create(self.out.as_deref(), &config.name)?),
        };
        Ok(Start { config, snapshot: None, folder })
    }
}

fn is_checkpoint(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "safetensors")
}

fn vqvae(args: &Common) -> Result<()> {
    let mut console = Console::new(args.device.quiet);
    let device = args.device.announce(&mut console)?;
    let start = args.start(&mut console)?;
    let data = material(&start.config, &args.data, &mut console)?;
    let described = device.describe();
    if let Some(folder) = &start.folder {
        folder.describe(&start.config, &described, &mut console)?;
    }
    let mut job = VqVaeJob::new(start.config, data)?;
    for warning in job.warnings() {
        console.line(&warning);
    }
    let session = job.session(device, start.folder, &mut preparing(&mut console))?;
    finish(args, session, &mut job, start.snapshot, &mut console)
}

fn diffusion(args: &Common, tokenizer: Option<&Path>) -> Result<()> {
    let mut console = Console::new(args.device.quiet);
    let device = args.device.announce(&mut console)?;
    let start = args.start(&mut console)?;
    let data = material(&start.config, &args.data, &mut console)?;
    let kept = start.folder.as_ref().map(|f| f.file(TOKENIZER));
    let tokenizer = match (tokenizer, &kept) {
        (Some(run), _) => Tokenizer::open(run)?,
        (None, Some(file)) if file.exists() => Tokenizer::from_snapshot(Snapshot::load(file)?)?,
        _ => {
            return Err(Error::usage("diffusion needs the run of a VQ-VAE")
                .help("--tokenizer runs/radar_vqvae"));
        }
    };
    if let (Some(folder), Some(file)) = (&start.folder, &kept) {
        folder.describe(&start.config, &device.describe(), &mut console)?;
        tokenizer.snapshot.save(file)?;
    }
    let arguments = args.device.clone();
    let open = move || arguments.open();
    let codes = match &start.folder {
        Some(folder) => cached(&folder.file(CODES), &tokenizer, &data.images, &open)?,
        None => tokenizer.encode(open()?, &data.images)?,
    };
    let mut job = DiffusionJob::new(start.config, data, tokenizer, codes, Box::new(open))?;
    let session = job.session(device, start.folder, &mut preparing(&mut console))?;
    finish(args, session, &mut job, start.snapshot, &mut console)
}

/// Two steps, the second one timed: the first compiles what drivers compile lazily.
fn dry_run(session: &mut Session, job: &mut dyn Job, console: &mut Console) -> Result<()> {
    job.start(session, console)?;
    session.advance(job)?;
    session.store.device.finish()?;
    let (before, started) = (session.store.device.stats(), std::time::Instant::now());
    session.advance(job)?;
    session.store.device.finish()?;
    let (after, seconds) = (session.store.device.stats(), started.elapsed().as_secs_f64());
    let dispatches = after.dispatches - before.dispatches;
    let mut line = format!("a step takes {seconds:.3} s: {dispatches} launches");
    if session.store.device.kind() == "gpu" {
        let encoding = (after.encode_ns - before.encode_ns) as f64 / 1e3 / dispatches.max(1) as f64;
        line.push_str(&format!(
            ", {} submissions, {encoding:.1} us of CPU time a launch",
            after.submits - before.submits
        ));
    }
    console.line(&line);
    console.line(&format!(
        "device memory {:.1} MiB in {} buffers",
        after.buffer_bytes as f64 / f64::from(1 << 20),
        after.buffers
    ));
    Ok(())
}

fn finish(
    args: &Common,
    mut session: Session,
    job: &mut dyn Job,
    snapshot: Option<Snapshot>,
    console: &mut Console,
) -> Result<()> {
    let stats = session.plan.stats;
    console.line(&format!(
        "{} parameters; {} launches and {} barriers a step; {:.1} MiB of slots for {:.1} MiB of tensors",
        session.store.table().elements(),
        stats.lane_launches + stats.update_launches,
        stats.barriers,
        stats.slot_bytes as f64 / f64::from(1 << 20),
        stats.tensor_bytes as f64 / f64::from(1 << 20)
    ));
    if args.dry_run {
        return dry_run(&mut session, job, console);
    }
    let path = session.folder.as_ref().map(|f| f.path().to_path_buf()).unwrap_or_default();
    let dump = std::mem::take(&mut session.plan.dump);
    write_atomically(&path.join("plan.txt"), |w| w.write_all(dump.as_bytes()))?;
    console.line(&format!("run folder {}", path.display()));
    if let Some(snapshot) = &snapshot {
        session.restore(snapshot, job.kind())?;
    }
    session.run(job, console)?;
    super::print(&path.display().to_string())
}
