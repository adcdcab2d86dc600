//! Which step of a chain each sample is trained on: the importance sampling of VQ-Diffusion.
//!
//! A step t is drawn with p_t ~ w_t. Where every step has been drawn more than [`WARM`] times, w_t =
//! sqrt(h_t + 1e-10) + 1e-4 of the running mean square h_t of its losses ([`super::loss_history`]), and
//! w_0 = w_1: the loss of the first step is one of another kind. Before, all w_t = 1. Steps drawn like
//! the root of their mean square give the sum of all losses by L_t / p_t with the least variance
//! (Nichol & Dhariwal, 2102.09672, section 3.3); the constants are those of VQ-Diffusion's released code.

use super::posterior_loss::{NOISE, Noise};
use super::{
    Bind, Case, Const, Cost, Fill, Io, Kernel, Real, StepScalars, float, grid_1d, int, wrong_binds,
};
use crate::naive_forms;
use crate::rng::{Stream, philox4x32};

/// Draws of each step by chance alone.
pub const WARM: f32 = 10.0;

/// Bindings: history [steps] (h) and count [steps] (draws so far), table [steps, [`NOISE`]] (the words of
/// each step), time u32 [samples], noise [samples, [`NOISE`]]: the words of the step that was drawn, its
/// factors of the bound and of the auxiliary term divided by p_t.
///
/// t is the first whose w_0 + .. + w_t exceeds u times their sum, all added in order. u has 24 bits: the
/// high bits of word 0 of philox(counter [0, [`Stream::ImportantTime`], step.sample_base + b, 0], key
/// seed), so that a chance is right to 2^-24 and does not depend on how the batch is cut into lanes.
#[derive(Debug, Clone)]
pub struct DrawSteps {
    pub samples: usize,
    pub steps: usize,
}

impl DrawSteps {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let step = io.step;
        let [
            Bind::In(history),
            Bind::In(count),
            Bind::In(table),
            Bind::OutU(time),
            Bind::Out(noise),
            ..,
        ] = &mut io.binds
        else {
            wrong_binds(self.name())
        };
        let known = count.iter().all(|&n| n > T::of(WARM.into()));
        let weight = |t: usize| match known {
            true => (history[t.max(1).min(self.steps - 1)] + T::of(1e-10)).sqrt() + T::of(1e-4),
            false => T::one(),
        };
        let mut total = T::zero();
        for t in 0..self.steps {
            total += weight(t);
        }
        for b in 0..self.samples {
            let sample = step.sample_base.wrapping_add(b as u32);
            let counter = [0, Stream::ImportantTime as u32, sample, 0];
            let word = philox4x32(counter, [step.seed_lo, step.seed_hi])[0];
            let share = T::of(f64::from(word >> 8) / f64::from(1u32 << 24)) * total;
            let mut below = T::zero();
            let drawn = (0..self.steps).find(|&t| {
                below += weight(t);
                share < below
            });
            // The product may round up to the sum.
            let t = drawn.unwrap_or(self.steps - 1);
            let of = Noise::of(table, t);
            let [bound, auxiliary] = [of.bound, of.auxiliary].map(|f| f * (total / weight(t)));
            let words = Noise { bound, auxiliary, ..of }.words();
            time[b] = t as u32;
            noise[b * NOISE..][..NOISE].copy_from_slice(&words);
        }
    }
}

impl Kernel for DrawSteps {
    fn name(&self) -> &'static str {
        "draw_steps"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/draw_steps.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![
            int("STEPS", self.steps),
            float("WARM", WARM),
            int("STREAM", Stream::ImportantTime as usize),
        ]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.samples as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let (steps, samples) = (self.steps, self.samples);
        vec![steps, steps, steps * NOISE, samples, samples * NOISE]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.samples, 64)
    }
    fn cost(&self) -> Cost {
        let (steps, samples) = (self.steps as u64, self.samples as u64);
        Cost { flops: samples * (200 + 8 * steps), bytes: 4 * (12 * steps + 11 * samples) }
    }
    fn rounds(&self) -> usize {
        3 * self.steps
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (samples, steps, sample_base) in
        [(1, 1, 0), (4, 2, 17), (9, 41, 3), (70, 100, 1 << 20), (65, 1000, u32::MAX - 7)]
    {
        let often = vec![WARM + 1.0; steps];
        let mut once_too_rarely = often.clone();
        once_too_rarely[steps / 2] = WARM;
        for (name, counts) in [("", often), (" by chance", once_too_rarely)] {
            let step = StepScalars { seed_lo: 6, seed_hi: 2, sample_base, ..Default::default() };
            // The first step's own history is far from that of the next.
            let history = (0..steps).map(|t| if t == 0 { 1e6 } else { (t * 7 % 13) as f32 });
            let history = Fill::F32(history.collect());
            let table = Fill::Uniform(0.5, 1.5);
            let fills = vec![history, Fill::F32(counts), table, Fill::Poison, Fill::Poison];
            let name = format!("{samples} of {steps}{name}");
            cases.push(Case::new(name, DrawSteps { samples, steps }, fills).with_step(step));
        }
    }
    cases
}
