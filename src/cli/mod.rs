//! One file per command.

mod begin;
mod bench;
mod common;
mod compare;
mod data;
mod demo;
mod devices;
mod embed;
mod eval;
mod inpaint;
mod latents;
mod opened;
mod protocol;
mod reconstruct;
mod report;
mod resume;
mod routes;
mod sample;
mod train;
mod tuning;
mod weights;

use clap::{Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;
use vqforge::error::{Error, Kind};

const EXAMPLES: &str = "Examples:
  vqforge demo
  vqforge train vqvae configs/radar_vqvae.toml --data train.npz
  vqforge sample runs/radar_diffusion --n 64 --out samples";

/// What `vqforge` alone prints, followed by the examples.
const SHORT: &str =
    "Train VQ-VAEs and discrete diffusion over their codes, on any GPU or on the CPU

  demo                 everything, on simulated data: nothing to download
  devices, bench       what to compute on, and how fast it is
  data                 look at data, convert it, or simulate some
  train, compare       a VQ-VAE, a diffusion over its codes; VQ-VAE or KL-VAE?
  sample, reconstruct  use it; eval: how good samples are; report; export, import
  COMMAND --help       more about a command
";

#[derive(Debug, Parser)]
#[command(
    name = "vqforge",
    version,
    about = "Train VQ-VAEs and discrete diffusion over their codes, on any GPU or on the CPU",
    after_help = EXAMPLES
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The whole chain on simulated spectrograms: nothing to download.
    Demo(demo::Args),
    /// The devices of this machine; * marks what `--device auto` picks.
    Devices(devices::Args),
    /// Look at data, or simulate some.
    #[command(subcommand)]
    Data(data::Command),
    /// Train a model.
    #[command(subcommand)]
    Train(train::Command),
    /// New images from a diffusion run.
    Sample(sample::Args),
    /// How good the samples of a diffusion run are, beside held-out real images.
    Eval(eval::Args),
    /// Images through a VQ-VAE run and back.
    Reconstruct(reconstruct::Args),
    /// The best checkpoint of a run as a folder for diffusers (needs model.family = "vqmodel").
    Export(weights::Export),
    /// A run made of a diffusers folder: VQModel or AutoencoderKL.
    Import(weights::Import),
    /// A run as one HTML page: curves, pictures, settings.
    Report(report::Args),
    /// VQ-VAE or KL-VAE: trains both on the same data and judges.
    Compare(compare::Args),
    /// How fast the kernels are here, and whether they are right.
    Bench(bench::Args),
}

/// Runs the program; the exit code says what kind of error there was.
pub fn run() -> ExitCode {
    std::panic::set_hook(Box::new(crash));
    if std::env::args_os().len() == 1 {
        // A closed pipe is the only thing that can go wrong.
        let _ = print(&format!("{SHORT}{EXAMPLES}"));
        return ExitCode::SUCCESS;
    }
    let cli = Cli::parse();
    let outcome = match &cli.command {
        Command::Demo(args) => demo::run(args),
        Command::Devices(args) => devices::run(args),
        Command::Data(command) => data::run(command),
        Command::Train(command) => train::run(command),
        Command::Sample(args) => sample::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Reconstruct(args) => reconstruct::run(args),
        Command::Export(args) => weights::export(args),
        Command::Import(args) => weights::import(args),
        Command::Report(args) => report::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Compare(args) => match compare::run(args) {
            Ok(decision) => return ExitCode::from(u8::try_from(decision.exit_code()).unwrap_or(1)),
            Err(e) => Err(e),
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // A run that stopped on request did what it was asked to.
            let stopped = matches!(e.kind, Kind::Stopped | Kind::Interrupted);
            common::tell(&if stopped { e.to_string() } else { format!("error: {e}") });
            ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(1))
        }
    }
}

/// A panic is a defect of the program: it leaves a report and a plain sentence, no backtrace.
fn crash(info: &std::panic::PanicHookInfo<'_>) {
    let report = format!(
        "vqforge {}\n{:?}\n{info}\n{}\n",
        env!("CARGO_PKG_VERSION"),
        std::env::args_os().collect::<Vec<_>>(),
        std::backtrace::Backtrace::force_capture()
    );
    let written = std::fs::write("crash.txt", report).is_ok();
    let place = if written { "details are in crash.txt" } else { "crash.txt could not be written" };
    let at = info.location().map_or("an unknown place".into(), ToString::to_string);
    let text = format!("error: the program failed: this is a defect\n  at: {at}\n  help: {place}");
    // Nothing is left to do if standard error is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
    std::process::exit(101);
}

/// Results go to standard output; a closed pipe is not an error.
fn print(text: &str) -> Result<(), Error> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::disk("cannot write to standard output").why(e))
        }
        _ => Ok(()),
    }
}
