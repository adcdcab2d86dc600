//! One case drives the correctness test, the benchmark and the tables of a kernel.

use super::{Kernel, StepScalars};
use crate::rng::{Rng, Stream};
use std::sync::Arc;

/// A kernel's row of the registry.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    pub name: &'static str,
    /// Correctness cases, the awkward shapes first.
    pub cases: fn() -> Vec<Case>,
}

/// How a binding is filled before the launch. Outputs are filled too (`Poison` unless the kernel
/// accumulates), so that a kernel that leaves an element unwritten is caught.
#[derive(Debug, Clone)]
pub enum Fill {
    /// Integers in lo..=hi, as f32: products and sums stay exact in any order.
    Ints(i32, i32),
    Normal {
        mean: f32,
        std: f32,
    },
    Uniform(f32, f32),
    /// u32 in 0..n.
    Index(u32),
    /// Given values.
    F32(Vec<f32>),
    U32(Vec<u32>),
    /// NaN bits: an output that must be written in full.
    Poison,
}

impl Fill {
    pub fn normal() -> Self {
        Fill::Normal { mean: 0.0, std: 1.0 }
    }

    /// `len` words of bits, deterministic in `seed`.
    pub fn bits(&self, len: usize, seed: u64) -> Vec<u32> {
        let mut rng = Rng::new(seed, Stream::Test, 0);
        let mut floats = |draw: &mut dyn FnMut(&mut Rng) -> f32| {
            (0..len).map(|_| draw(&mut rng).to_bits()).collect()
        };
        match self {
            Fill::Ints(lo, hi) => {
                let span = (hi - lo + 1) as u32;
                floats(&mut |r| (lo + r.below(span) as i32) as f32)
            }
            Fill::Normal { mean, std } => floats(&mut |r| mean + std * r.normal() as f32),
            Fill::Uniform(lo, hi) => floats(&mut |r| r.range((*lo).into(), (*hi).into()) as f32),
            Fill::Index(n) => (0..len).map(|_| rng.below(*n)).collect(),
            Fill::F32(v) => v.iter().map(|x| x.to_bits()).collect(),
            Fill::U32(v) => v.clone(),
            Fill::Poison => vec![0x7fc0_dead; len],
        }
    }

    /// As [`Fill::bits`], to be timed rather than compared: random numbers cost more than most
    /// kernels, so long bindings repeat a block of them. Its length is a prime, so that no row of a
    /// matrix equals the next.
    pub fn repeated(&self, len: usize, seed: u64) -> Vec<u32> {
        const BLOCK: usize = 65_521;
        match self {
            Fill::F32(_) | Fill::U32(_) => self.bits(len, seed),
            _ => self.bits(len.min(BLOCK), seed).into_iter().cycle().take(len).collect(),
        }
    }
}

/// How outputs are compared with the naive form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// Small-integer inputs: every form equals the naive one bit for bit.
    Exact,
    /// Random floats: within the derived bound of [`super::Bounded`]. Integer outputs still equal.
    Bound,
    /// As `Bound`, but an integer output may differ where a near-tie makes it ambiguous; the float
    /// output beside it (its distance) is still held to the bound.
    NearTies,
}

#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    pub kernel: Arc<dyn Kernel>,
    /// One per storage binding, in binding order.
    pub fills: Vec<Fill>,
    pub tier: Tier,
    pub step: StepScalars,
}

impl Case {
    pub fn new(name: impl Into<String>, kernel: impl Kernel + 'static, fills: Vec<Fill>) -> Self {
        Case {
            name: name.into(),
            kernel: Arc::new(kernel),
            fills,
            tier: Tier::Bound,
            step: StepScalars::default(),
        }
    }
    pub fn exact(mut self) -> Self {
        self.tier = Tier::Exact;
        self
    }
    pub fn near_ties(mut self) -> Self {
        self.tier = Tier::NearTies;
        self
    }
    pub fn with_step(mut self, step: StepScalars) -> Self {
        self.step = step;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_fills_repeat_a_block() {
        let words = Fill::normal().repeated(70_000, 3);
        assert_eq!(words.len(), 70_000);
        assert_eq!(words[..65_521], Fill::normal().bits(65_521, 3));
        assert_eq!(words[65_521], words[0]);
        assert_ne!(words[256..512], words[..256]);
        assert_eq!(Fill::normal().repeated(9, 3), Fill::normal().bits(9, 3));
    }
}
