//! The number type of the naive forms: `f32`, `f64`, or [`super::Bounded`].

use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// Arithmetic that the naive forms are written in.
pub trait Real:
    Copy
    + Debug
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + Send
    + Sync
    + 'static
{
    /// A constant (exact in the type's own precision).
    fn of(x: f64) -> Self;
    fn value(self) -> f64;
    fn exp(self) -> Self;
    fn ln(self) -> Self;
    fn sqrt(self) -> Self;
    fn tanh(self) -> Self;
    /// Gauss error function.
    fn erf(self) -> Self;
    fn abs(self) -> Self;
    /// Rounded to the nearest f16.
    fn half(self) -> Self;

    fn zero() -> Self {
        Self::of(0.0)
    }
    fn one() -> Self {
        Self::of(1.0)
    }
    fn maximum(self, other: Self) -> Self {
        if self < other { other } else { self }
    }
    /// `1 / (1 + e^-x)`.
    fn sigmoid(self) -> Self {
        Self::one() / (Self::one() + (-self).exp())
    }
}

macro_rules! float_real {
    ($t:ty, $erf:path) => {
        impl Real for $t {
            fn of(x: f64) -> Self {
                x as $t
            }
            fn value(self) -> f64 {
                f64::from(self)
            }
            fn exp(self) -> Self {
                <$t>::exp(self)
            }
            fn ln(self) -> Self {
                <$t>::ln(self)
            }
            fn sqrt(self) -> Self {
                <$t>::sqrt(self)
            }
            fn tanh(self) -> Self {
                <$t>::tanh(self)
            }
            fn erf(self) -> Self {
                $erf(self)
            }
            fn abs(self) -> Self {
                <$t>::abs(self)
            }
            fn half(self) -> Self {
                half::f16::from_f64(self.value()).to_f64() as $t
            }
        }
    };
}
float_real!(f32, libm::erff);
float_real!(f64, libm::erf);
