//! `vqforge bench [quantize|cmp]`

use super::common::{DeviceArgs, tell};
use std::io::Write;
use std::path::{Path, PathBuf};
use vqforge::bench::{self, Options, Report, Row};
use vqforge::data::atomic::write_atomically;
use vqforge::device::tuner::Table;
use vqforge::error::{Error, Result};
use vqforge::report::svg;
use vqforge::train::Console;

/// Where `--record` keeps its files.
const RECORDS: &str = "benches/record";

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    measured: Measured,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// The quantiser over vectors, codes and components: a table and a plot
    Quantize {
        #[command(flatten)]
        measured: Measured,
        /// The plot to write
        #[arg(long, default_value = "quantize.svg")]
        svg: PathBuf,
        /// Plot processor time, which other work on the machine disturbs less
        #[arg(long)]
        cpu: bool,
    },
    /// Two records row by row
    Cmp {
        /// JSON files that --json or --record wrote
        first: PathBuf,
        second: PathBuf,
        /// Compare processor time, which other work on the machine disturbs less
        #[arg(long)]
        cpu: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Measured {
    #[command(flatten)]
    device: DeviceArgs,
    /// Only rows whose names contain this
    #[arg(long, default_value = "")]
    filter: String,
    /// Only small sizes
    #[arg(long)]
    quick: bool,
    /// Also every variant of the kernels that this device can run
    #[arg(long)]
    variants: bool,
    /// Seconds for everything; rows that do not fit are listed [default: 180, or 30 with --quick]
    #[arg(long, value_parser = budget)]
    budget: Option<f64>,
    /// Also write the figures as JSON; `-`: to standard output, in place of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Keep them as benches/record/ADAPTER/DATE.csv and .json, below the working directory
    #[arg(long)]
    record: bool,
}

fn budget(text: &str) -> std::result::Result<f64, String> {
    let seconds: Option<f64> = text.parse().ok();
    seconds.filter(|s| (1.0..=86_400.0).contains(s)).ok_or_else(|| "use 1 to 86400 seconds".into())
}

pub fn run(args: &Args) -> Result<()> {
    match &args.command {
        None => measure(&args.measured, bench::all_rows())?.verify(),
        Some(Command::Quantize { measured, svg, cpu }) => {
            // A path that cannot be written should not cost a measurement.
            check_writable(svg)?;
            let report = measure(measured, bench::grid())?;
            write(svg, &svg::standalone(&bench::charts(&report, *cpu)))?;
            if !measured.device.quiet {
                tell(&format!("plot in {}", svg.display()));
            }
            report.verify()
        }
        Some(Command::Cmp { first, second, cpu, json }) => {
            let (first, second) = (Report::read(first)?, Report::read(second)?);
            let comparison = bench::compare(&first, &second, *cpu)?;
            let text = match json {
                true => serde_json::to_string_pretty(&comparison)
                    .map_err(|e| Error::failed("cannot write a comparison as JSON").why(e))?,
                false => comparison.to_string(),
            };
            super::print(text.trim_end())
        }
    }
}

/// Whatever the results are worth: [`Report::verify`] judges, after everything was written.
fn measure(args: &Measured, rows: Vec<Row>) -> Result<Report> {
    let to_stdout = args.json.as_deref() == Some(Path::new("-"));
    if let Some(path) = args.json.as_deref().filter(|_| !to_stdout) {
        check_writable(path)?;
    }
    if args.device.tune.is_some() {
        return Err(Error::usage("bench takes no --tune")
            .why("it times the baselines, or with --variants every variant")
            .help("leave --tune away"));
    }
    let mut console = Console::new(args.device.quiet);
    let mut device = args.device.announce_with(Some(&Table::default()), &mut console)?;
    let options = Options {
        filter: args.filter.clone(),
        quick: args.quick,
        variants: args.variants,
        budget: args.budget.unwrap_or_else(|| Options::usual_budget(args.quick)),
    };
    let report = bench::run(&mut *device, rows, &options, &mut |text| console.progress(text))?;
    console.line(&format!("{} rows", report.rows.len()));
    match &args.json {
        Some(_) if to_stdout => super::print(&report.to_json()?)?,
        Some(path) => {
            write(path, &format!("{}\n", report.to_json()?))?;
            super::print(report.to_string().trim_end())?;
        }
        None => super::print(report.to_string().trim_end())?,
    }
    if args.record {
        let path = report.record(Path::new(RECORDS))?;
        if !args.device.quiet {
            tell(&format!("recorded in {}", path.display()));
        }
        if report.controls.iter().any(|c| c.noisy()) {
            tell("warning: the machine was too noisy for a record, see the control");
        }
    }
    Ok(report)
}

fn write(path: &Path, text: &str) -> Result<()> {
    write_atomically(path, |w| w.write_all(text.as_bytes()))
}

/// An error now rather than after minutes of measuring.
fn check_writable(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() && !path.is_dir() {
        return Ok(());
    }
    let why = if path.is_dir() { "it is a folder" } else { "its folder does not exist" };
    Err(Error::disk("the file cannot be written").at_path(path).why(why).help("give another path"))
}
