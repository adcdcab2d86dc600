//! The optimiser of a run and its step scalars: learning rate, bias corrections, decay of the weight
//! average. Both come from the same settings: a bias correction belongs to its beta.

use crate::config::{RateSchedule, Train};
use crate::kernels::StepScalars;
use crate::plan::{Optimiser, Options, Weights};

/// AdamW as the settings ask for it.
pub fn optimiser(train: &Train) -> Optimiser {
    Optimiser {
        beta1: train.betas[0],
        beta2: train.betas[1],
        eps: train.eps as f32,
        weight_decay: train.weight_decay as f32,
        clip: train.clip as f32,
        average: train.ema_decay > 0.0,
    }
}

/// How the step of a run is compiled.
pub fn training_options(train: &Train) -> Options {
    Options { optimiser: Some(optimiser(train)), lanes: train.lanes, ..Options::default() }
}

/// The weights by which a run is judged: averaged ones, where there are some.
pub fn judged_weights(train: &Train) -> Weights {
    if train.ema_decay > 0.0 { Weights::Average } else { Weights::Current }
}

/// Linear warm-up from 0, then constant or half a cosine down to 0. `step` counts from 0.
pub fn learning_rate(train: &Train, step: u64) -> f64 {
    if step < train.warmup {
        return train.lr * (step + 1) as f64 / train.warmup as f64;
    }
    match train.schedule {
        RateSchedule::Constant => train.lr,
        RateSchedule::Cosine => {
            let rest = train.steps.saturating_sub(train.warmup).max(1) as f64;
            let done = (step - train.warmup) as f64 / rest;
            0.5 * train.lr * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos())
        }
    }
}

/// Scalars of one lane of one step; everything that rounds is computed in f64.
pub fn step_scalars(train: &Train, step: u64, lane: usize, ring_rows: usize) -> StepScalars {
    let updates = (step + 1) as i32;
    let correction = |beta: f64| (1.0 / (1.0 - beta.powi(updates))) as f32;
    // The ramp lets the average forget the random start (Karras et al. use the same form).
    let ramp = (1.0 + step as f64) / (10.0 + step as f64);
    let sample = step * train.batch as u64 + (lane * train.micro()) as u64;
    StepScalars {
        step: step as u32,
        seed_lo: train.seed as u32,
        seed_hi: (train.seed >> 32) as u32,
        sample_base: sample as u32,
        lr: learning_rate(train, step) as f32,
        bias1: correction(train.betas[0]),
        bias2: correction(train.betas[1]),
        ema_decay: train.ema_decay.min(ramp) as f32,
        inv_lanes: 1.0 / train.lanes.max(1) as f32,
        ring_row: (step % ring_rows as u64) as u32,
        ..StepScalars::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_then_decay() {
        let train = Train { lr: 1.0, warmup: 10, steps: 110, ..Train::default() };
        assert_eq!(learning_rate(&train, 0), 0.1);
        assert_eq!(learning_rate(&train, 9), 1.0);
        assert!((learning_rate(&train, 60) - 0.5).abs() < 1e-12);
        assert!(learning_rate(&train, 109) < 1e-3);
        let flat = Train { schedule: RateSchedule::Constant, ..train };
        assert_eq!(learning_rate(&flat, 5000), 1.0);
    }

    #[test]
    fn samples_are_counted_over_lanes() {
        let train = Train { batch: 32, lanes: 4, ..Train::default() };
        assert_eq!(step_scalars(&train, 3, 2, 64).sample_base, 3 * 32 + 16);
        assert_eq!(step_scalars(&train, 67, 0, 64).ring_row, 3);
    }
}
