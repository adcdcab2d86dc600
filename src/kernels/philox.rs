//! Random words: the device's twin of [`crate::rng`].

use super::wrong_binds;
use super::{Bind, Case, Const, Cost, Fill, Io, Kernel, Real, StepScalars, grid_1d, int};
use crate::naive_forms;
use crate::rng::{Stream, philox4x32};

/// bits[i] = element i % 4 of philox(counter [i / 4, stream, step.step, 0], key seed): bindings
/// bits u32 [n].
#[derive(Debug, Clone)]
pub struct Philox {
    pub n: usize,
    pub stream: Stream,
}

impl Philox {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let step = io.step;
        let [Bind::OutU(bits), ..] = &mut io.binds else { wrong_binds(self.name()) };
        for (i, word) in bits.iter_mut().enumerate() {
            let counter = [(i / 4) as u32, self.stream as u32, step.step, 0];
            *word = philox4x32(counter, [step.seed_lo, step.seed_hi])[i % 4];
        }
    }
}

impl Kernel for Philox {
    fn name(&self) -> &'static str {
        "philox"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/philox.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![int("STREAM", self.stream as usize)]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.n as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.n]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.n.div_ceil(4), 256)
    }
    fn cost(&self) -> Cost {
        // About 20 integer operations a round and block of four.
        Cost { flops: 50 * self.n as u64, bytes: 4 * self.n as u64 }
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (n, stream, step, seed_lo, seed_hi) in [
        (1, Stream::Init, 0, 0, 0),
        (47, Stream::Sample, 7, 1, 0),
        (1024, Stream::TokenMask, u32::MAX, 0xdead_beef, 0x0123_4567),
        (1025, Stream::Test, 1 << 31, u32::MAX, u32::MAX),
    ] {
        let scalars = StepScalars { step, seed_lo, seed_hi, ..StepScalars::default() };
        let case = Case::new(format!("n={n} {stream:?}"), Philox { n, stream }, vec![Fill::Poison]);
        cases.push(case.exact().with_step(scalars));
    }
    cases
}
