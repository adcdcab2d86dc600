//! `vqforge report`

use std::io::Write;
use std::path::PathBuf;
use vqforge::data::atomic::write_atomically;
use vqforge::error::{Error, Result};
use vqforge::report::run_report;
use vqforge::train::RunFolder;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run folder, of any kind of model
    run: PathBuf,
    /// The file to write; report.html of the run folder if not given
    #[arg(long)]
    out: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<()> {
    if !RunFolder::is_run(&args.run) {
        return Err(Error::usage("there is no run here")
            .at_path(&args.run)
            .why("a run folder holds a config.toml and checkpoints"));
    }
    let page = run_report(&args.run)?;
    let path = args.out.clone().unwrap_or_else(|| args.run.join("report.html"));
    write_atomically(&path, |w| w.write_all(page.as_bytes()))?;
    super::print(&path.display().to_string())
}
