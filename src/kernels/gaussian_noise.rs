//! Standard normal numbers by Box and Muller (1958), right far out: the radius sqrt(-2 log v) comes
//! from a v with full relative precision near 0, so the tail goes on to 12 standard deviations, where
//! a 24-bit uniform stops at 5.8.
//!
//! The angle is a quarter turn plus an eighth at most, for which short Taylor series are exact to f32:
//! WGSL promises its own sine and cosine to 2^-11 only. Every step is plain arithmetic besides one
//! logarithm and one root, so [`super::Bounded`] derives how far forms may be apart: bound tier.

use super::draw_tokens::unit_interval;
use super::{
    Bind, Case, Const, Cost, Fill, Io, Kernel, Real, StepScalars, grid_1d, int, wrong_binds,
};
use crate::naive_forms;
use crate::rng::{Stream, philox4x32};
use rayon::prelude::*;

/// Bindings: y [samples, per_sample].
///
/// Elements 4j .. 4j + 3 of sample b come from philox(counter [j, [`Stream::GaussianNoise`] + 256 draw,
/// step.sample_base + b, step.step], key seed): words 0 and 1 give the first two, words 2 and 3 the
/// others. Where the high 9 bits of a radius word are zero, its v goes on in the counter with 2^31 (2^31
/// + 2^30 for the second) added to j. The numbers do not depend on how a batch is cut into lanes.
#[derive(Debug, Clone)]
pub struct GaussianNoise {
    pub samples: usize,
    /// Below 2^32.
    pub per_sample: usize,
    /// Tells apart several draws in one step; below 2^24.
    pub draw: u32,
}

/// Above this v, -log v comes from its series in 1 - v, whose first omitted term is below 2^-26.
const SERIES_ABOVE: f64 = 63.0 / 64.0;

/// sqrt(-2 log v).
fn radius<T: Real>(v: f32) -> T {
    let exponential = if f64::from(v) > SERIES_ABOVE {
        let (half, third, quarter) = (T::of(0.5), T::of(1.0 / 3.0), T::of(0.25));
        let x = T::one() - T::of(v.into());
        x * (T::one() + x * (half + x * (third + x * quarter)))
    } else {
        -T::of(v.into()).ln()
    };
    (T::of(2.0) * exponential).sqrt()
}

/// Cosine and sine of a uniform angle: the high 2 bits choose the quarter, the next 24 the angle around
/// its middle, at most pi / 4.
fn direction<T: Real>(word: u32) -> [T; 2] {
    let steps = f64::from(word >> 6 & 0xff_ffff) - f64::from(1u32 << 23) + 0.5;
    let x = T::of(std::f64::consts::FRAC_PI_2) * T::of(steps / f64::from(1u32 << 24));
    let x2 = x * x;
    // 1 - x2 / (k (k + 1)) of what follows, from the last term on.
    let series = |last: [f64; 5]| {
        last.iter().fold(T::one(), |rest, k| T::one() - x2 * rest * T::of(1.0 / (k * (k + 1.0))))
    };
    let cos = series([9.0, 7.0, 5.0, 3.0, 1.0]);
    let sin = x * series([10.0, 8.0, 6.0, 4.0, 2.0]);
    match word >> 30 {
        0 => [cos, sin],
        1 => [-sin, cos],
        2 => [-cos, -sin],
        _ => [sin, -cos],
    }
}

impl GaussianNoise {
    fn blocks(&self) -> usize {
        self.per_sample.div_ceil(4)
    }

    /// Elements 4j .. 4j + 3 of a sample.
    fn block<T: Real>(&self, step: &StepScalars, sample: usize, j: usize) -> [T; 4] {
        let stream = Stream::GaussianNoise as u32 + (self.draw << 8);
        let sample = step.sample_base.wrapping_add(sample as u32);
        let words =
            |j: u32| philox4x32([j, stream, sample, step.step], [step.seed_lo, step.seed_hi]);
        let [a, b, c, d] = words(j as u32);
        let first = radius::<T>(unit_interval(a, || words(j as u32 | 1 << 31)));
        let second = radius::<T>(unit_interval(c, || words(j as u32 | 3 << 30)));
        let ([cos, sin], [cos2, sin2]) = (direction::<T>(b), direction::<T>(d));
        [first * cos, first * sin, second * cos2, second * sin2]
    }

    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let step = io.step;
        let [Bind::Out(y), ..] = &mut io.binds else { wrong_binds(self.name()) };
        for (sample, y) in y.chunks_mut(self.per_sample).enumerate() {
            for (position, y) in y.iter_mut().enumerate() {
                *y = self.block(&step, sample, position / 4)[position % 4];
            }
        }
    }
}

impl Kernel for GaussianNoise {
    fn name(&self) -> &'static str {
        "gaussian_noise"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/gaussian_noise.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        let stream = Stream::GaussianNoise as usize + ((self.draw as usize) << 8);
        vec![int("PER_SAMPLE", self.per_sample), int("STREAM", stream)]
    }
    fn dims(&self) -> Vec<u32> {
        vec![(self.samples * self.blocks()) as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.samples * self.per_sample]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.samples * self.blocks(), 64)
    }
    fn cost(&self) -> Cost {
        let n = self.lens()[0] as u64;
        Cost { flops: 100 * n, bytes: 4 * n }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        const BLOCKS: usize = 256;
        let step = io.step;
        let [Bind::Out(y), ..] = &mut io.binds else { wrong_binds(self.name()) };
        for (sample, y) in y.chunks_mut(self.per_sample).enumerate() {
            y.par_chunks_mut(4 * BLOCKS).enumerate().for_each(|(chunk, y)| {
                for (j, y) in y.chunks_mut(4).enumerate() {
                    let block = self.block::<f32>(&step, sample, chunk * BLOCKS + j);
                    y.copy_from_slice(&block[..y.len()]);
                }
            });
        }
    }
    naive_forms!();
}

/// 4,000 pairs, of which one in 512 goes on past its first word.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (samples, per_sample, draw, sample_base) in
        [(1, 1, 0, 0), (3, 41, 1, 17), (2, 256, 0, u32::MAX), (5, 1602, 2, 1 << 20)]
    {
        let step =
            StepScalars { step: 7, seed_lo: 5, seed_hi: 9, sample_base, ..StepScalars::default() };
        let kernel = GaussianNoise { samples, per_sample, draw };
        let name = format!("{samples} x {per_sample} draw={draw}");
        cases.push(Case::new(name, kernel, vec![Fill::Poison]).with_step(step));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The series against the library's sine and cosine, over whole turns and at the ends.
    #[test]
    fn directions_lie_on_the_circle() {
        let words = (0..4096u32).map(|i| i.wrapping_mul(0x9e37_79b9)).chain([0, u32::MAX, 1 << 30]);
        for word in words {
            let quarter = f64::from(word >> 30);
            let within = (f64::from(word >> 6 & 0xff_ffff) + 0.5) / f64::from(1u32 << 24) - 0.5;
            let angle = std::f64::consts::FRAC_PI_2 * (quarter + within);
            let [cos, sin] = direction::<f64>(word);
            // The larger of the first omitted terms, (pi / 4)^12 / 12!; either series in either place.
            assert!((cos - angle.cos()).abs() < 1.2e-10, "{word:#x}: {cos}");
            assert!((sin - angle.sin()).abs() < 1.2e-10, "{word:#x}: {sin}");
        }
    }

    /// The radius against its definition from the smallest v, at 12 standard deviations, to the largest.
    #[test]
    fn the_tail_goes_on() {
        for zeros in 0..105u32 {
            let mut more = [0u32; 4];
            let word = if zeros < 9 { 1 << (31 - zeros) | 0x1234 } else { 0x1234 };
            if zeros >= 9 {
                let tail = zeros - 9;
                more[tail as usize / 32] = 1 << (31 - tail % 32);
            }
            let v = unit_interval(word, || more);
            let want = (-2.0 * f64::from(v).ln()).sqrt();
            // ln of v and the root, in f32.
            assert!((f64::from(radius::<f32>(v)) / want - 1.0).abs() < 4.0 / f64::from(1u32 << 24));
            assert!(zeros < 104 || want > 12.0, "{want}");
        }
        for below in 1..2000u32 {
            let v = 1.0 - f64::from(below * 200) / f64::from(1u32 << 24);
            let want = (-2.0 * v.ln()).sqrt();
            let error = f64::from(radius::<f32>(v as f32)) / want - 1.0;
            assert!(error.abs() < 4.0 / f64::from(1u32 << 24), "{v}: {error:e}");
        }
    }
}
