//! `vqforge train vqvae|klvae|diffusion`

use super::begin::{Origin, begin};
use super::common::{DeviceArgs, material, preparing};
use super::resume::Start;
use super::{latents, tuning};
use std::path::{Path, PathBuf};
use std::time::Instant;
use vqforge::config::{Bottleneck, Config, Process};
use vqforge::data::{Dataset, Embeddings, Scale};
use vqforge::device::tuner::Table;
use vqforge::error::{Error, Kind, Result};
use vqforge::metrics::collapse::arguments;
use vqforge::tape::Precision;
use vqforge::train::autoencoder::AutoencoderJob;
use vqforge::train::codes::{self, TOKENIZER, Tokenizer};
use vqforge::train::diffusion::DiffusionJob;
use vqforge::train::session::resume_command;
use vqforge::train::{
    Console, Job, Material, Pause, Remedies, RunFolder, Session, Snapshot, choices, stop,
};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// An autoencoder with codes
    Vqvae {
        #[command(flatten)]
        common: Common,
        /// Where the codebook collapses, begin anew: with revival, then fewer codes, then shorter ones,
        /// then with fsq
        #[arg(long)]
        auto_remedy: bool,
    },
    /// An autoencoder with Gaussian latents
    Klvae(Common),
    /// Diffusion over the codes of a VQ-VAE run; with diffusion.process=gaussian over its latents or those of
    /// a KL-VAE run
    Diffusion {
        #[command(flatten)]
        common: Common,
        /// The run folder of the VQ-VAE or KL-VAE; a resumed run has its own copy
        #[arg(long, value_name = "RUN")]
        tokenizer: Option<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
pub struct Common {
    /// Settings, TOML; a resumed run has its own copy
    pub(super) config: Option<PathBuf>,
    /// Override a setting: section.key=value
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(super) sets: Vec<String>,
    /// npz, npy, a folder of PNG images, or synth:human, synth:rotor; a resumed run remembers it
    #[arg(long, value_name = "PATH")]
    pub(super) data: Option<String>,
    /// Run folder; default runs/NAME, NAME from the settings
    #[arg(long, value_name = "RUN")]
    pub(super) out: Option<PathBuf>,
    /// Continue a run (RUN, RUN@best, RUN@step_N), or with `auto` the one in --out if there is one
    #[arg(long, value_name = "auto|RUN")]
    pub(super) resume: Option<String>,
    /// f32, or mixed: activations and their gradients in 16 bits; short for --set train.precision=
    #[arg(long, value_name = "f32|mixed")]
    pub(super) precision: Option<Precision>,
    /// Prepare everything, time a step, write nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Stop after so many steps, save, exit with 75; the run can be resumed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_steps: Option<u64>,
    /// The same after a time: 90s, 30m, 12h
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    time_limit: Option<f64>,
    #[command(flatten)]
    pub(super) device: DeviceArgs,
}

pub const CODES: &str = "codes.safetensors";

pub fn run(command: &Command) -> Result<()> {
    stop::install()?;
    let (Command::Vqvae { common, .. }
    | Command::Klvae(common)
    | Command::Diffusion { common, .. }) = command;
    let mut console = Console::new(common.device.quiet);
    let outcome = match command {
        Command::Vqvae { common, auto_remedy } => {
            autoencoder(common, Bottleneck::Vq, *auto_remedy, &mut console)
        }
        Command::Klvae(common) => autoencoder(common, Bottleneck::Kl, false, &mut console),
        Command::Diffusion { common, tokenizer } => {
            diffusion(common, tokenizer.as_deref(), &mut console)
        }
    };
    match outcome {
        Ok(Some(ended)) => super::print(&ended.run.display().to_string()),
        Ok(None) => Ok(()),
        Err(e) => {
            console.record(&e.to_string());
            Err(e)
        }
    }
}

/// `90`, `90s`, `30m`, `1.5h`.
fn seconds(text: &str) -> std::result::Result<f64, String> {
    let (number, unit) = match text.char_indices().next_back() {
        Some((at, 's')) => (&text[..at], 1.0),
        Some((at, 'm')) => (&text[..at], 60.0),
        Some((at, 'h')) => (&text[..at], 3600.0),
        _ => (text, 1.0),
    };
    match number.parse::<f64>() {
        Ok(n) if n > 0.0 && n.is_finite() => Ok(n * unit),
        _ => Err("write 90s, 30m or 12h".into()),
    }
}

impl Common {
    /// A run of these settings in `out`, or what was begun there.
    pub(super) fn run_in(config: PathBuf, data: String, out: PathBuf, device: DeviceArgs) -> Self {
        Common {
            config: Some(config),
            sets: vec![],
            data: Some(data),
            out: Some(out),
            resume: Some("auto".into()),
            precision: None,
            dry_run: false,
            max_steps: None,
            time_limit: None,
            device,
        }
    }

    pub(super) fn pause(&self) -> Pause {
        Pause { steps: self.max_steps, seconds: self.time_limit }
    }
}

fn autoencoder(
    args: &Common,
    bottleneck: Bottleneck,
    auto_remedy: bool,
    console: &mut Console,
) -> Result<Option<Ended>> {
    let kind = match bottleneck {
        Bottleneck::Vq => "vqvae",
        Bottleneck::Kl => "klvae",
    };
    let mut start = args.start(kind, console)?;
    if start.config.model.bottleneck != bottleneck {
        let theirs = start.config.model.bottleneck;
        return Err(Error::usage(format!("these settings are not of a {kind}"))
            .why(format!("model.bottleneck is {theirs:?}"))
            .help("train vqvae wants \"vq\" there, train klvae \"kl\""));
    }
    let data = material(&start.config, &start.data, None, console)?;
    let mut remedies = Remedies::new(auto_remedy, start.snapshot.as_ref());
    let (mut left, mut attempts) = (args.pause(), 0);
    loop {
        let begun = Instant::now();
        let (config, name) = (start.config.clone(), start.data.clone());
        let device = args.device.announce_with(start.choices.as_ref(), console)?;
        let mut job = AutoencoderJob::new(config.clone(), data.clone())?;
        job.remedies = remedies.clone();
        for warning in job.warnings() {
            console.line(&warning);
        }
        let session = job.session(device, None, &mut preparing(console))?;
        let before = start.run.clone().filter(|_| attempts > 0);
        let ended = finish(args, start, left, &data, session, &mut job, &mut |_| Ok(()), console);
        let ended = ended.map_err(|e| match before.filter(|_| e.kind == Kind::Interrupted) {
            // Before the first step of an attempt the one before it is what can be continued.
            Some(run) => e.help(resume_command(&format!("train {kind}"), &run)),
            None => e,
        })?;
        let Some(Ended { run, steps, anew: Some(changes) }) = ended else { return Ok(ended) };
        let config = Config::parse("settings", &config.to_toml()?, &changes)?;
        let how = arguments(&changes);
        console.line(&format!("the codebook has collapsed; the run begins anew with {how}"));
        let folder = Some(RunFolder::open(&run)?);
        let (snapshot, choices) = (None, None);
        start = Start { config, data: name, snapshot, folder, run: Some(run), choices };
        remedies.add(&changes);
        attempts += 1;
        left = left.after(steps, begun.elapsed().as_secs_f64());
    }
}

/// Trains, as `train diffusion` does.
pub(super) fn diffusion(
    args: &Common,
    tokenizer: Option<&Path>,
    console: &mut Console,
) -> Result<Option<Ended>> {
    let mut start = args.start("diffusion", console)?;
    if start.config.diffusion.process == Process::Gaussian {
        return latents::train(args, start, tokenizer, console);
    }
    let run = start.run.as_deref();
    let tokenizer = open_tokenizer(tokenizer, run, Tokenizer::from_snapshot, console)?;
    let device = args.device.announce_with(start.choices.as_ref(), console)?;
    let scale = seen_as_by(&tokenizer, &mut start.config, console)?;
    let data = material(&start.config, &start.data, scale, console)?;
    let embeddings = embeddings(&start, data.images.n, console)?;
    let (arguments, own, screen) = (args.device.clone(), start.choices.clone(), console.clone());
    let open = move || arguments.open(own.as_ref(), &screen);
    let cache = start.folder.as_ref().map(|f| f.file(CODES));
    let known = match &cache {
        Some(file) => codes::recall(file, &tokenizer, &data.images)?,
        None => None,
    };
    let (codes, chosen) = match known {
        Some(codes) => (codes, Table::default()),
        None => {
            console.line(&format!("encoding {} images with the tokenizer", data.images.n));
            tokenizer.encode(open()?, &data.images)?
        }
    };
    let mut keep = |folder: &RunFolder| {
        choices::add(folder, chosen.clone())?;
        keep_codes(folder, &tokenizer, &data.images, &codes)
    };
    let (mine, numbers) = (tokenizer.clone(), codes.clone());
    let config = start.config.clone();
    let mut job = DiffusionJob::new(config, data.clone(), mine, numbers, Box::new(open))?;
    if let Some(embeddings) = embeddings {
        job = job.with_embeddings(embeddings)?;
    }
    let session = job.session(device, None, &mut preparing(console))?;
    finish(args, start, args.pause(), &data, session, &mut job, &mut keep, console)
}

/// The embedding of every image, where the settings name some.
fn embeddings(start: &Start, images: usize, console: &mut Console) -> Result<Option<Embeddings>> {
    let Some(setting) = &start.config.data.embeddings else { return Ok(None) };
    let embeddings = Embeddings::of_data(setting, Path::new(&start.data))?.for_images(images)?;
    let (tokens, width) = (embeddings.tokens, embeddings.width);
    console.line(&format!("embeddings {setting}: {tokens} x {width} numbers an image"));
    Ok(Some(embeddings))
}

/// Leaves in the folder of a diffusion what it was made from.
pub fn keep_codes(
    folder: &RunFolder,
    tokenizer: &Tokenizer,
    images: &Dataset,
    codes: &[u32],
) -> Result<()> {
    tokenizer.snapshot.save(&folder.file(TOKENIZER))?;
    codes::remember(&folder.file(CODES), tokenizer, images, codes)
}

/// The tokenizer of a run: its own copy if it has one, for the codes must not change under it. `accept` says
/// which runs will do.
pub(super) fn open_tokenizer(
    given: Option<&Path>,
    run: Option<&Path>,
    accept: fn(Snapshot) -> Result<Tokenizer>,
    console: &mut Console,
) -> Result<Tokenizer> {
    let open = |run| accept(Snapshot::load_best(run)?).map_err(|e| e.at_path(run));
    let given = given.map(open).transpose()?;
    if let Some(file) = run.map(|run| run.join(TOKENIZER)).filter(|f| f.exists()) {
        let own = accept(Snapshot::load(&file)?)?;
        if let Some(given) = given
            && given.hash()? != own.hash()?
        {
            console.line("warning: --tokenizer has changed; the run goes on with its own copy");
        }
        return Ok(own);
    }
    given.ok_or_else(|| {
        Error::usage("diffusion needs the run of a VQ-VAE, or of a KL-VAE where it is Gaussian")
            .help("--tokenizer runs/radar_vqvae")
    })
}

/// Images are codes as the tokenizer made them: its size, its normalisation, its fitted scale.
pub(super) fn seen_as_by(
    tokenizer: &Tokenizer,
    config: &mut Config,
    console: &mut Console,
) -> Result<Option<Scale>> {
    let theirs = &tokenizer.config.data;
    let ours = &mut config.data;
    let before = ours.clone();
    ours.norm = theirs.norm;
    ours.clip_db = theirs.clip_db;
    ours.unit = theirs.unit;
    ours.percentiles = theirs.percentiles;
    ours.size.clone_from(&theirs.size);
    ours.signal.clone_from(&theirs.signal);
    if *ours != before {
        console.line("data.norm and data.size are those of the tokenizer");
    }
    if ours.split != theirs.split {
        console.line(
            "warning: data.split is not the tokenizer's: it may have seen what is held out here",
        );
    }
    tokenizer.scale()
}

/// How training ended.
pub(super) struct Ended {
    run: PathBuf,
    /// Steps done by this process.
    steps: u64,
    /// Changes of the settings with which the run should begin anew.
    anew: Option<Vec<String>>,
}

/// Trains: from here on files are written, by `keep` those that the job wants in the folder. Nothing in
/// a dry run.
#[expect(clippy::too_many_arguments, reason = "what a run consists of, for all kinds of jobs")]
pub(super) fn finish(
    args: &Common,
    start: Start,
    pause: Pause,
    data: &Material,
    mut session: Session,
    job: &mut dyn Job,
    keep: &mut dyn FnMut(&RunFolder) -> Result<()>,
    console: &mut Console,
) -> Result<Option<Ended>> {
    let stats = session.plan.stats;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    console.line(&format!(
        "{} parameters; {} launches and {} barriers a step{}; {:.1} MiB on the device, {:.1} of \
         them slots for {:.1} MiB of tensors; plan {}",
        session.store.table().elements(),
        stats.lane_launches + stats.update_launches,
        stats.barriers,
        tuning::summary(&*session.store.device),
        mib(session.store.device.stats().buffer_bytes),
        mib(stats.slot_bytes),
        mib(stats.tensor_bytes),
        session.plan.hash
    ));
    let origin = Origin::of(start.data, &data.images);
    if let Some(snapshot) = &start.snapshot {
        origin.compare(&session, snapshot, console);
    }
    if args.dry_run {
        dry_run(session, job, start.snapshot.as_ref(), console)?;
        return Ok(None);
    }
    session.pause = pause;
    let folder = match start.folder {
        Some(folder) => folder,
        None => RunFolder::create(args.out.as_deref(), &start.config.name)?,
    };
    let path = folder.path().to_path_buf();
    begin(&mut session, job, folder, &origin, start.snapshot.as_ref(), console)?;
    if let Some(folder) = &session.folder {
        keep(folder)?;
    }
    console.line(&format!("run folder {}", path.display()));
    if session.step >= start.config.train.steps {
        console.line(&format!(
            "all {} steps are done; --set train.steps=N with a larger N goes on",
            start.config.train.steps
        ));
    }
    let first = session.step;
    let finished = session.run(job, console)?;
    let late = finished.steps >= start.config.train.steps;
    if let Some(changes) = finished.anew.as_ref().filter(|_| late) {
        console.line(&format!(
            "warning: the collapse was seen at the last step, too late to begin anew (help: evaluate \
             earlier with --set train.eval_every=N, or start another run with {})",
            arguments(changes)
        ));
    }
    let anew = finished.anew.filter(|_| !late);
    Ok(Some(Ended { run: path, steps: finished.steps - first, anew }))
}

fn dry_run(
    mut session: Session,
    job: &mut dyn Job,
    snapshot: Option<&Snapshot>,
    console: &mut Console,
) -> Result<()> {
    match snapshot {
        Some(snapshot) => session.restore(snapshot, job.kind())?,
        None => job.start(&mut session, console)?,
    }
    // The first step warms caches up.
    session.advance(job)?;
    session.store.device.finish()?;
    let (before, started) = (session.store.device.stats(), std::time::Instant::now());
    session.advance(job)?;
    session.store.device.finish()?;
    let (after, step) = (session.store.device.stats(), started.elapsed().as_secs_f64());
    let launches = after.dispatches - before.dispatches;
    let mut line = format!("{launches} launches");
    if session.store.device.kind() == "gpu" {
        let encoding = (after.encode_ns - before.encode_ns) as f64 / 1e3 / launches.max(1) as f64;
        let submissions = after.submits - before.submits;
        line.push_str(&format!(
            " in {submissions} submissions, {encoding:.1} us of CPU time each to encode"
        ));
    }
    let mib = after.buffer_bytes as f64 / f64::from(1 << 20);
    console.line(&format!("{line}; {mib:.1} MiB in {} buffers", after.buffers));
    let steps = session.config.train.steps;
    console.line(&format!(
        "a step takes {step:.3} s: about {} for {steps} steps, evaluations not counted",
        vqforge::train::progress::clock(step * steps as f64)
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, want) in [("90", 90.0), ("90s", 90.0), ("1.5m", 90.0), ("2h", 7200.0)] {
            assert_eq!(seconds(text), Ok(want));
        }
        for bad in ["", "h", "-1s", "nan", "inf", "0", "5d", "5µ"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
