//! `vqforge devices`

use vqforge::device;
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
        let f16 = if d.f16 { "f16" } else { "no f16" };
        line.push_str(&format!("  binds {} MiB  {f16}", d.max_binding_mib));
        super::print(&line)?;
    }
    Ok(())
}
