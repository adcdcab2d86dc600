//! A number that carries a bound on the rounding error of any f32 evaluation of itself.
//!
//! Running a naive form over [`Bounded`] yields, beside the f64 value of every output, how far an
//! honest f32 kernel may be from it: running error analysis (Wilkinson 1963; Higham, "Accuracy and
//! Stability of Numerical Algorithms", section 3.3) to first order. Tolerances of the kernel tests
//! are therefore derived from the formula and the data, never picked.
//!
//! Kernels may sum in any order. For a sum the bound must hold for every order, so next to the
//! error a `magnitude` travels: the sum of absolute values of all terms added so far. Each addition
//! contributes `u * magnitude` instead of `u * |value|`.

use super::Real;
use std::cmp::Ordering;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// Unit roundoff of f32.
const U: f64 = 1.0 / (1u64 << 24) as f64;
/// Smallest normal f32: products and quotients below it may be flushed to zero.
const TINY: f64 = f32::MIN_POSITIVE as f64;
/// Division: WGSL allows 2.5 ulp, that is 5 u.
const DIV: f64 = 5.0 * U;
/// Square root: WGSL derives it from `1 / inverseSqrt(x)` at 2 ulp, plus the division.
const SQRT: f64 = 9.0 * U;
/// Unit roundoff of f16, and half the spacing of its subnormal numbers.
const U16: f64 = 1.0 / (1u64 << 11) as f64;
const TINY16: f64 = 1.0 / (1u64 << 25) as f64;

#[derive(Debug, Clone, Copy)]
pub struct Bounded {
    value: f64,
    error: f64,
    magnitude: f64,
}

impl Bounded {
    /// An input: an f32 known exactly.
    pub fn exact(x: f32) -> Self {
        let value = f64::from(x);
        Bounded { value, error: 0.0, magnitude: value.abs() }
    }

    /// Largest admissible |f32 result - value|. The analysis is of first order: hence
    /// the factor 2; and denormal results may be flushed.
    pub fn tolerance(self) -> f64 {
        2.0 * self.error + TINY
    }

    /// Result of a function with derivative bound `slope` at the argument and relative error `rel`.
    fn function(self, value: f64, propagated: f64, rounding: f64) -> Self {
        Bounded { value, error: propagated + rounding, magnitude: value.abs() }
    }
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}
impl PartialOrd for Bounded {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.value.partial_cmp(&other.value)
    }
}

impl Add for Bounded {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        let magnitude = self.magnitude + o.magnitude;
        // Adding an exact zero is exact.
        let rounding =
            if self.magnitude == 0.0 || o.magnitude == 0.0 { 0.0 } else { U * magnitude };
        Bounded { value: self.value + o.value, error: self.error + o.error + rounding, magnitude }
    }
}
impl AddAssign for Bounded {
    fn add_assign(&mut self, o: Self) {
        *self = *self + o;
    }
}
impl Neg for Bounded {
    type Output = Self;
    fn neg(self) -> Self {
        Bounded { value: -self.value, ..self }
    }
}
impl Sub for Bounded {
    type Output = Self;
    fn sub(self, o: Self) -> Self {
        self + -o
    }
}
impl Mul for Bounded {
    type Output = Self;
    fn mul(self, o: Self) -> Self {
        let magnitude = self.magnitude * o.magnitude;
        let carried =
            self.value.abs() * o.error + o.value.abs() * self.error + self.error * o.error;
        Bounded { value: self.value * o.value, error: carried + U * magnitude + TINY, magnitude }
    }
}
impl Div for Bounded {
    type Output = Self;
    fn div(self, o: Self) -> Self {
        let value = self.value / o.value;
        let divisor = (o.value.abs() - o.error).max(f64::MIN_POSITIVE);
        Bounded {
            value,
            error: (self.error + value.abs() * o.error) / divisor + DIV * value.abs() + TINY,
            magnitude: self.magnitude / o.value.abs(),
        }
    }
}

impl Real for Bounded {
    fn of(x: f64) -> Self {
        // A constant of the formula: an f32 kernel rounds it once.
        let error = (x - f64::from(x as f32)).abs();
        Bounded { value: x, error, magnitude: x.abs() }
    }
    fn value(self) -> f64 {
        self.value
    }
    fn exp(self) -> Self {
        let value = self.value.exp();
        // WGSL: 3 + 2 |x| ulp.
        let rounding = (3.0 + 2.0 * self.value.abs()) * 2.0 * U * value + TINY;
        self.function(value, value * self.error.exp_m1(), rounding)
    }
    fn ln(self) -> Self {
        let value = self.value.ln();
        let nearest = (self.value - self.error).max(f64::MIN_POSITIVE);
        // WGSL: absolute 2^-21 on [0.5, 2], otherwise 3 ulp.
        let rounding = (8.0 * U).max(6.0 * U * value.abs());
        self.function(value, self.error / nearest, rounding)
    }
    fn sqrt(self) -> Self {
        let value = self.value.sqrt();
        let low = (self.value - self.error).max(0.0).sqrt();
        self.function(value, (value - low).max(0.0), SQRT * value)
    }
    fn tanh(self) -> Self {
        // Kernels evaluate 1 - 2 / (exp(2x) + 1): an absolute error of a few u.
        self.function(self.value.tanh(), self.error, 16.0 * U)
    }
    fn erf(self) -> Self {
        // Kernels use a rational approximation with absolute error below 1.5e-7 = 2.6 u, evaluated in f32.
        let slope = 2.0 / std::f64::consts::PI.sqrt();
        self.function(libm::erf(self.value), slope * self.error, 16.0 * U)
    }
    fn abs(self) -> Self {
        Bounded { value: self.value.abs(), ..self }
    }
    /// Exact for what is known exactly. Otherwise two evaluations may round to different neighbours.
    fn half(self) -> Self {
        if self.error == 0.0 {
            let value = half::f16::from_f64(self.value).to_f64();
            return Bounded { value, error: 0.0, magnitude: value.abs() };
        }
        let rounding = U16 * (self.value.abs() + self.error) + TINY16;
        self.function(self.value, self.error, rounding)
    }
    /// As a function of its own: for large -x the default passes through an infinite exponential,
    /// beside which no bound is left, while s' = s (1 - s) forgets any error of e^-x.
    fn sigmoid(self) -> Self {
        let value = 1.0 / (1.0 + (-self.value).exp());
        let exponential = (3.0 + 2.0 * self.value.abs()) * 2.0 * U + self.error.exp_m1();
        let rounding = (DIV + U) * value + TINY;
        self.function(value, value * (1.0 - value) * exponential, rounding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bound of a dot product holds for forward, reverse and pairwise order, and is not vacuous.
    #[test]
    fn any_order_of_a_sum() {
        let n = 1000;
        let xs: Vec<f32> = (0..n).map(|i| ((i * 37 % 101) as f32 - 50.3) * 0.37).collect();
        let mut sum = Bounded::zero();
        for &x in &xs {
            sum += Bounded::exact(x) * Bounded::exact(1.7);
        }
        let forward: f32 = xs.iter().map(|x| x * 1.7).sum();
        let reverse: f32 = xs.iter().rev().map(|x| x * 1.7).sum();
        for got in [forward, reverse] {
            assert!((f64::from(got) - sum.value).abs() <= sum.tolerance());
        }
        let mass: f64 = xs.iter().map(|x| f64::from((x * 1.7).abs())).sum();
        assert!(sum.tolerance() < 2.0 * n as f64 * U * mass);
    }

    #[test]
    fn cancellation_is_seen() {
        let big = Bounded::exact(1.0e8) * Bounded::exact(1.1);
        let difference = big - big + Bounded::exact(1.0);
        assert!(difference.tolerance() > 1.0, "1.1e8 - 1.1e8 + 1 has no correct digit in f32");
    }
}
