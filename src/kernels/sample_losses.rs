//! The loss of every sample of a step, beside the step of its chain, each at its place in the batch.

use super::{
    Bind, Case, Const, Cost, Fill, Io, Kernel, Real, StepScalars, grid_1d, int, wrong_binds,
};
use crate::naive_forms;

/// Bindings: value [samples, length] (of the tokens of a lane), time u32 [samples], losses [2, batch]: the
/// sum over the tokens of each sample, then its time as a number. Samples of other lanes are 0, so that
/// the sum over the lanes is the whole batch in its order, exact in any tree. The lane begins at
/// step.sample_base - batch step.step.
#[derive(Debug, Clone)]
pub struct SampleLosses {
    pub samples: usize,
    pub length: usize,
    /// Samples of all lanes.
    pub batch: usize,
}

impl SampleLosses {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let step = io.step;
        let [Bind::In(value), Bind::InU(time), Bind::Out(losses), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        losses.fill(T::zero());
        let first = step.sample_base.wrapping_sub(step.step.wrapping_mul(self.batch as u32));
        for (b, tokens) in value.chunks_exact(self.length).enumerate() {
            let place = first as usize + b;
            for &v in tokens {
                losses[place] += v;
            }
            losses[self.batch + place] = T::of(time[b].into());
        }
    }
}

impl Kernel for SampleLosses {
    fn name(&self) -> &'static str {
        "sample_losses"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/sample_losses.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![int("LEN", self.length), int("BATCH", self.batch)]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.samples as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.samples * self.length, self.samples, 2 * self.batch]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.batch, 1)
    }
    fn cost(&self) -> Cost {
        let values = (self.samples * self.length) as u64;
        Cost { flops: values, bytes: 4 * (values + 2 * self.batch as u64) }
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    // Lanes in front, in the middle and at the end; steps whose count of samples has wrapped around.
    for (samples, length, batch, step, first) in [
        (1, 1, 1, 0, 0),
        (2, 41, 6, 3, 2),
        (4, 300, 4, 7, 0),
        (3, 64, 9, 1 << 31, 6),
        (41, 7, 82, u32::MAX, 41),
    ] {
        let sample_base = step.wrapping_mul(batch as u32).wrapping_add(first);
        let step = StepScalars { step, sample_base, ..Default::default() };
        for (tier, values) in [("", Fill::normal()), (" exact", Fill::Ints(-9, 9))] {
            let kernel = SampleLosses { samples, length, batch };
            let fills = vec![values, Fill::Index(1000), Fill::Poison];
            let name = format!("{samples} x {length} of {batch}{tier}");
            let case = Case::new(name, kernel, fills).with_step(step);
            cases.push(if tier.is_empty() { case } else { case.exact() });
        }
    }
    cases
}
