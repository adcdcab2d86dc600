//! exp(j 2 pi x) in f32, fast enough to be called for every scatterer at every sample.
//!
//! Everything is branch-free arithmetic, so that loops over it vectorise on any target.

/// 1.5 * 2^23: adding and subtracting it rounds an f32 below 2^22 in magnitude to an integer.
const ROUND_F32: f32 = 12_582_912.0;
/// 1.5 * 2^52, the same for f64.
const ROUND_F64: f64 = 6_755_399_441_055_744.0;

/// Distance to the nearest integer, with sign: in [-1/2, 1/2]. For |turns| < 2^51.
#[inline(always)]
pub fn wrap(turns: f64) -> f64 {
    turns - ((turns + ROUND_F64) - ROUND_F64)
}

/// (cos 2 pi x, sin 2 pi x) for |x| < 2^22.
///
/// The half angle h = pi (x - round x) lies in [-pi/2, pi/2], where the Taylor polynomials of
/// degree 11 (sine) and 12 (cosine) err by at most (pi/2)^13/13! = 5.7e-8 and
/// (pi/2)^14/14! = 6.4e-9; the double-angle formulas then need no quadrant logic. With f32
/// rounding the error of either part is below 1e-6 (tested), 120 dB under the phasor.
#[inline(always)]
pub fn unit_phasor(turns: f32) -> (f32, f32) {
    let h = (turns - ((turns + ROUND_F32) - ROUND_F32)) * std::f32::consts::PI;
    let q = h * h;
    let tail = 1.0 / 362_880.0 - q * (1.0 / 39_916_800.0);
    let sin = h * (1.0 - q * (1.0 / 6.0 - q * (1.0 / 120.0 - q * (1.0 / 5_040.0 - q * tail))));
    let tail = 1.0 / 40_320.0 - q * (1.0 / 3_628_800.0 - q * (1.0 / 479_001_600.0));
    let cos = 1.0 - q * (1.0 / 2.0 - q * (1.0 / 24.0 - q * (1.0 / 720.0 - q * tail)));
    (1.0 - 2.0 * sin * sin, 2.0 * sin * cos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phasor_error_is_below_a_millionth() {
        let worst = (-80_000..=80_000)
            .map(|i| {
                let x = i as f32 * 1e-4;
                let (cos, sin) = unit_phasor(x);
                let (want_sin, want_cos) = (f64::from(x) * std::f64::consts::TAU).sin_cos();
                (f64::from(cos) - want_cos).abs().max((f64::from(sin) - want_sin).abs())
            })
            .fold(0.0, f64::max);
        assert!(worst < 1e-6, "{worst:e}");
    }

    #[test]
    fn wrap_is_the_distance_to_the_nearest_integer() {
        for (x, want) in [(0.25, 0.25), (0.75, -0.25), (-1e6 - 0.125, -0.125), (3.0, 0.0)] {
            assert_eq!(wrap(x), want);
        }
    }
}
