//! What the documents say of the plan of the shipped settings is what the plan says.

use crate::device::cpu;
use std::path::Path;
use vqforge::config::Config;
use vqforge::plan::{Options, ParamTable, Plan, Store};
use vqforge::tape::Tape;
use vqforge::train::{autoencoder, optimiser};

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join(path)).expect(path);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The training step of `configs/radar_vqvae.toml` on 64 x 64 images of one channel.
fn radar(precision: &str) -> Plan {
    let sets = [format!("train.precision={precision}")];
    let text = include_str!("../configs/radar_vqvae.toml");
    let config = Config::parse("radar_vqvae", text, &sets).unwrap_or_else(|e| panic!("{e}"));
    let (mut tape, mut table) = (Tape::new(), ParamTable::default());
    let shape = [config.train.batch, 64, 64, 1];
    autoencoder::record(&mut tape, &mut table, &config, shape).unwrap_or_else(|e| panic!("{e}"));
    let mut store = Store::new(cpu(1), table, 0).unwrap_or_else(|e| panic!("{e}"));
    let options = Options { optimiser: Some(optimiser(&config.train)), ..Options::default() };
    Plan::compile(&mut store, &tape, &options, &mut |_, _| {}).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn memory_and_launches() {
    let (full, mixed) = (radar("f32"), radar("mixed"));
    let mib = |plan: &Plan| (plan.stats.slot_bytes as f64 / f64::from(1 << 20)).round();
    let claim = format!("take {} MiB instead of {}", mib(&mixed), mib(&full));
    assert!(read("README.md").contains(&claim), "the README does not say: {claim}");

    let line = full.dump.lines().find(|l| l.starts_with("[joined]")).expect("what was joined");
    let numbers: Vec<&str> = line.split(|c: char| c != '.' && !c.is_ascii_digit()).collect();
    let n: Vec<&str> = numbers.into_iter().filter(|n| !n.is_empty()).collect();
    let row = format!(
        "| `radar_vqvae.toml`, batch 32 | {} -> {} | {} -> {} | {} -> {} | {} -> {} |",
        n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7]
    );
    let record = "docs/adr/0009-fusion-in-the-planner.md";
    assert!(read(record).contains(&row), "{record} does not say: {row}");
}
