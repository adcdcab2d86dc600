//! vqforge as a library: a kernel and an operation of one's own (`gauss.rs`, `gauss.wgsl`) in a model
//! that learns to tell the two arms of a spiral apart.
//! Run it with `cargo run --release --example custom_op`.

mod gauss;

pub use gauss::{Gauss, gauss};

use vqforge::config::Train;
use vqforge::device::{self, Device};
use vqforge::error::Result;
use vqforge::model::Scope;
use vqforge::ops::{cross_entropy, linear};
use vqforge::plan::{Options, ParamInit, ParamTable, Plan, RING_ROWS, Store};
use vqforge::tape::{Act, Tape};
use vqforge::train::{optimiser, step_scalars};

const BATCH: usize = 64;

fn layer(mut s: Scope<'_>, x: Act, n: usize) -> Result<Act> {
    let k = s.tape.shape(x).channels();
    let w = s.param("weight", &[k, n], ParamInit::Normal(1.0 / (k as f32).sqrt()), true)?;
    let b = s.param("bias", &[n], ParamInit::Normal(0.5), false)?;
    linear(s.tape, x, w, Some(b))
}

/// Trains on `device`; returns the loss of every step.
pub fn train(device: Box<dyn Device>, steps: u64) -> Result<Vec<f32>> {
    let (mut tape, mut table) = (Tape::new(), ParamTable::default());
    let mut s = Scope::new(&mut tape, &mut table);
    let points = s.tape.input("points", &[BATCH, 2])?;
    let arm = s.tape.constant_idx(&[BATCH], (0..BATCH as u32).map(|i| i % 2).collect())?;
    let weight = s.tape.constant(&[BATCH], vec![1.0; BATCH])?;
    let mut h = points;
    for i in 0..2 {
        h = layer(s.at(i), h, 24)?;
        h = gauss(s.tape, h)?;
    }
    let logits = layer(s.at("out"), h, 2)?;
    let (loss, _) = cross_entropy(&mut tape, logits, arm, weight, 1.0 / BATCH as f32)?;
    tape.report("loss", loss)?;
    tape.backward(&[(loss, 1.0)])?;

    let settings = Train { steps, lr: 1e-2, warmup: 10, ..Train::default() };
    let mut store = Store::new(device, table, settings.seed)?;
    let options = Options { optimiser: Some(optimiser(&settings)), ..Options::default() };
    let plan = Plan::compile(&mut store, &tape, &options, &mut |_, _| {})?;
    let mut losses = vec![];
    for step in 0..steps {
        // Multiples of the golden ratio fill both arms evenly.
        let point = |i: usize| {
            let r = 0.2 + 1.3 * ((step as usize * BATCH + i) as f64 * 0.618_033_988_7).fract();
            let angle = 4.0 * r + std::f64::consts::PI * (i % 2) as f64;
            [(r * angle.cos()) as f32, (r * angle.sin()) as f32]
        };
        let batch: Vec<f32> = (0..BATCH).flat_map(point).collect();
        store.write_f32(plan.input("points")?, &batch)?;
        plan.run_lane(&mut store, 0, &step_scalars(&settings, step, 0, RING_ROWS))?;
        losses.push(plan.read_ring(&mut store, step..step + 1)?[0].scalars[0].1);
    }
    Ok(losses)
}

fn main() -> Result<()> {
    let device = device::open("auto", 0)?;
    println!("{}", device.describe());
    for (i, losses) in train(device, 400)?.chunks(50).enumerate() {
        let mean = losses.iter().sum::<f32>() / losses.len() as f32;
        println!("steps {:3}..{:3}  loss {mean:.4}", i * 50, i * 50 + losses.len());
    }
    Ok(())
}
