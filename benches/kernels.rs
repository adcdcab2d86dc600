//! The rows of `vqforge bench` under `cargo bench`:
//! `cargo bench --bench kernels -- [--quick] [--variants] [device] [filter]`.

use vqforge::bench::{Options, all_rows, run};
use vqforge::device;
use vqforge::error::Result;

fn main() -> Result<()> {
    // Cargo adds a flag of its own.
    let (flags, words): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|a| a.starts_with("--"));
    let set = |name: &str| flags.iter().any(|f| f == name);
    let (quick, variants) = (set("--quick"), set("--variants"));
    let name = words.first().map_or("cpu", String::as_str);
    let filter = words.get(1).cloned().unwrap_or_default();
    let budget = Options::usual_budget(quick);
    let options = Options { filter, quick, variants, budget };
    let report = run(&mut *device::open(name, 0)?, all_rows(), &options, &mut |_| {})?;
    println!("{report}");
    report.verify()
}
