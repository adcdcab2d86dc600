//! Elementary functions as straight-line code without branches or calls, so that LLVM turns a loop
//! over them into vector instructions. Call such loops inside [`vectorised`]: outside of it the
//! crate is compiled for the oldest CPU of the target.

use pulp::{Arch, Simd, WithSimd};

/// Runs `work` compiled for the widest vector instructions of this CPU. Write the closure
/// `#[inline(always)] || ...`, and so everything it calls: what is not inlined stays baseline code,
/// several times slower and with no other sign.
#[inline(always)]
pub fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    struct Work<F>(F);
    impl<R, F: FnOnce() -> R> WithSimd for Work<F> {
        type Output = R;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _simd: S) -> R {
            (self.0)()
        }
    }
    Arch::new().dispatch(Work(work))
}

/// ln 2 = LN2_HI + LN2_LO. The high part has 15 bits, so that its product with an exponent is exact.
const LN2_HI: f32 = 0.693_145_75;
const LN2_LO: f32 = 1.428_606_8e-6;
/// 1.5 * 2^23: adding it leaves the nearest integer in the low bits of the mantissa.
const ROUND: f32 = 12_582_912.0;

/// Minimax coefficients of (e^r - 1 - r) / r^2 on |r| <= ln(2) / 2; relative error of e^r 8e-9.
const E: [f32; 5] = [0.5, 0.166_665_77, 0.041_666_554, 0.008_363_233, 0.001_392_625_1];

/// e^x; overflows to infinity, underflows through the subnormals to 0, keeps NaN.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Beyond these the result is infinite or rounds to zero. Comparisons, not min/max: NaN stays.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    // e^x = 2^n e^r with |r| <= ln(2) / 2.
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN2_HI) - n * LN2_LO;
    let q = (((E[4] * r + E[3]) * r + E[2]) * r + E[1]) * r + E[0];
    let p = q * (r * r) + r + 1.0;
    // 2^n in two factors: n reaches -150, one exponent field only -126. The first product is exact.
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// The error function, to 1.5e-7 (Abramowitz & Stegun 1964, 7.1.26).
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let size = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * size);
    let poly = ((((1.061_405_4 * t - 1.453_152_1) * t + 1.421_413_8) * t - 0.284_496_72) * t
        + 0.254_829_6)
        * t;
    (1.0 - poly * exp(-size * size)).copysign(x)
}

/// 2^n for -126 <= n <= 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// e^x of a register, for kernels written against [`Simd`]: with fused multiply-adds and half the
/// instructions of [`exp`], for -87 <= x <= 88; x is clamped to that range, NaN stays.
#[inline(always)]
pub fn exp_lanes<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // No closures: LLVM may leave them out of line.
    let (low, high) = (simd.splat_f32s(-87.0), simd.splat_f32s(88.0));
    let x = simd.select_f32s(simd.less_than_f32s(x, low), low, x);
    let x = simd.select_f32s(simd.less_than_f32s(high, x), high, x);
    let round = simd.splat_f32s(ROUND);
    let shifted = simd.mul_add_e_f32s(x, simd.splat_f32s(std::f32::consts::LOG2_E), round);
    let n = simd.sub_f32s(shifted, round);
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-LN2_HI), x);
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-LN2_LO), r);
    let mut p = simd.splat_f32s(E[4]);
    for e in [E[3], E[2], E[1], E[0], 1.0, 1.0] {
        p = simd.mul_add_e_f32s(p, r, simd.splat_f32s(e));
    }
    // 2^n by its exponent field, n between -126 and 127.
    let bits = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    let power = simd.add_u32s(bits, simd.splat_u32s(1.0f32.to_bits()));
    simd.mul_f32s(p, simd.transmute_f32s_u32s(power))
}

/// 1 / (1 + e^-x), to the same relative accuracy in both tails.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    let e = exp(-x.abs());
    let s = 1.0 / (1.0 + e);
    if x < 0.0 { e * s } else { s }
}

/// x sigmoid(x).
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

/// Derivative of [`silu`].
#[inline(always)]
pub fn silu_slope(x: f32) -> f32 {
    let s = sigmoid(x);
    s * (1.0 + x * (1.0 - s))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// |got - want| in units of the last place of want, subnormals included.
    fn ulps(got: f32, want: f64) -> f64 {
        let rounded = want as f32;
        if rounded.is_infinite() || got.is_infinite() {
            return if got == rounded { 0.0 } else { f64::INFINITY };
        }
        let exponent = want.abs().log2().floor().max(-126.0);
        (f64::from(got) - want).abs() / (exponent - 23.0).exp2()
    }

    /// Every 1,009th bit pattern of both signs: all exponents, infinities among them.
    fn sweep() -> impl Iterator<Item = f32> {
        let finite = (0..=f32::INFINITY.to_bits()).step_by(1009).map(f32::from_bits);
        let special = [f32::INFINITY, f32::MAX, f32::MIN_POSITIVE, 88.722_84, 88.72, 103.97, 104.1];
        finite.chain(special).flat_map(|x| [x, -x])
    }

    fn worst(f: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64) -> f64 {
        let xs: Vec<f32> = sweep().collect();
        let mut ys = xs.clone();
        vectorised(
            #[inline(always)]
            || ys.iter_mut().for_each(|y| *y = f(*y)),
        );
        let error = |(&x, &y): (&f32, &f32)| (ulps(y, exact(f64::from(x))), x);
        let mut errors: Vec<_> = xs.iter().zip(&ys).map(error).collect();
        errors.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (error, at) = errors[errors.len() - 1];
        assert!(error <= 3.0, "{error} ulp at {at}");
        error
    }

    #[test]
    fn exp_over_the_whole_range() {
        let error = worst(exp, f64::exp);
        assert!(error <= 1.5, "{error} ulp: the polynomial got worse");
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NAN).is_nan());
    }

    struct ExpLanes<'a>(&'a mut [f32]);
    impl WithSimd for ExpLanes<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            for x in bytemuck::cast_slice_mut::<f32, S::f32s>(self.0) {
                *x = exp_lanes(simd, *x);
            }
        }
    }

    #[test]
    fn exp_lanes_over_its_range() {
        let clamped = |x: f32| x.clamp(-87.0, 88.0);
        let mut xs: Vec<f32> = sweep().filter(|x| x.is_finite()).collect();
        xs.truncate(xs.len() / 16 * 16);
        let mut ys = xs.clone();
        Arch::new().dispatch(ExpLanes(&mut ys));
        for (&x, &y) in xs.iter().zip(&ys) {
            let error = ulps(y, f64::from(clamped(x)).exp());
            assert!(error <= 1.5, "{error} ulp at {x}");
        }
        let mut special = [f32::from_bits(0x7fc0_dead); 16];
        special[1] = f32::INFINITY;
        special[2] = f32::NEG_INFINITY;
        Arch::new().dispatch(ExpLanes(&mut special));
        assert!(special[0].is_nan() && special[15].is_nan());
        assert!(special[1] > 1e38 && special[2] < 2e-38);
    }

    #[test]
    fn sigmoid_over_the_whole_range() {
        // For x < 0 the quotient keeps the relative accuracy of the tail.
        worst(
            sigmoid,
            |x| if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) },
        );
        assert!(sigmoid(f32::NAN).is_nan());
        assert_eq!((sigmoid(f32::INFINITY), sigmoid(f32::NEG_INFINITY)), (1.0, 0.0));
    }
}
