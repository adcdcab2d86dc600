//! `vqforge devices`

use vqforge::device::{self, AdapterSummary};
use vqforge::error::{Error, Result};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    for d in device::list() {
        if args.json {
            let line = serde_json::to_string(&d)
                .map_err(|e| Error::failed("cannot write a device as JSON").why(e))?;
            super::print(&line)?;
            continue;
        }
        let mark = if d.default { '*' } else { ' ' };
        let mut line = format!("{mark} {}  {}  {}  {}", d.index, d.name, d.kind, d.backend);
        for extra in [&d.driver, &d.pci] {
            if !extra.is_empty() {
                line.push_str(&format!("  {extra}"));
            }
        }
        line.push_str(&format!("  binds {} MiB  {}", d.max_binding_mib, features(&d).join(", ")));
        super::print(&line)?;
    }
    Ok(())
}

/// What decides which variants of the kernels there are, and how they are timed.
fn features(d: &AdapterSummary) -> Vec<String> {
    let mut all = vec![if d.f16 { "f16".into() } else { "no f16".into() }];
    all.extend(d.subgroups.map(|(least, most)| match least == most {
        true => format!("subgroups of {least}"),
        false => format!("subgroups of {least} to {most}"),
    }));
    all.extend(d.coop_matrix.iter().map(|side| format!("{side}x{side} matrices")));
    all.extend(d.timestamps.then(|| "timestamps".into()));
    all
}
