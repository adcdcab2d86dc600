//! The comparator. It is written `!(error <= tolerance)`, so that NaN fails, and its own tests come
//! first: a comparator that cannot fail proves nothing.

use half::f16;
use vqforge::kernels::Bounded;
use vqforge::kernels::Real;

/// Largest share of its tolerance any element used, or the first element outside.
#[expect(clippy::neg_cmp_op_on_partial_ord, reason = "NaN must fail")]
pub fn within_bound(got: &[f32], want: &[Bounded]) -> Result<f64, String> {
    if got.len() != want.len() {
        return Err(format!("{} elements instead of {}", got.len(), want.len()));
    }
    let mut worst = 0.0f64;
    for (i, (&g, w)) in got.iter().zip(want).enumerate() {
        let value = w.value();
        // Overflow of the formula itself: infinities must agree in kind and sign, NaN with NaN.
        if !value.is_finite() {
            let same = if value.is_nan() { g.is_nan() } else { f64::from(g) == value };
            if same {
                continue;
            }
            return Err(format!("element {i}: {g} instead of {value}"));
        }
        let (error, tolerance) = ((f64::from(g) - value).abs(), finite(i, w.tolerance())?);
        if !(error <= tolerance) {
            return Err(format!(
                "element {i}: {g} instead of {value}: error {error:.3e} > derived bound {tolerance:.3e}"
            ));
        }
        worst = worst.max(error / tolerance);
    }
    Ok(worst)
}

/// A bound without end would pass anything.
fn finite(i: usize, tolerance: f64) -> Result<f64, String> {
    match tolerance.is_finite() {
        true => Ok(tolerance),
        false => Err(format!("element {i}: a derived bound of {tolerance} proves nothing")),
    }
}

/// The same for values that were rounded to f16 when they were stored. Rounding to nearest is
/// monotonic, so a value anywhere within its bound is stored between the bound's ends as stored.
/// The share is that of the bound plus half a unit in the last place of the f16.
pub fn within_half(got: &[f32], want: &[Bounded]) -> Result<f64, String> {
    if got.len() != want.len() {
        return Err(format!("{} elements instead of {}", got.len(), want.len()));
    }
    let mut worst = 0.0f64;
    for (i, (&g, w)) in got.iter().zip(want).enumerate() {
        let (value, tolerance, g) = (w.value(), w.tolerance(), f64::from(g));
        if value.is_nan() && g.is_nan() {
            continue;
        }
        if value.is_finite() {
            finite(i, tolerance)?;
        }
        let stored = |x: f64| f16::from_f64(x).to_f64();
        let (low, high) = (stored(value - tolerance), stored(value + tolerance));
        if !(low <= g && g <= high) {
            return Err(format!(
                "element {i}: {g} instead of {value}, which is stored as {low} .. {high}"
            ));
        }
        if g.is_finite() {
            let next = f16::from_bits(f16::from_f64(value.abs()).to_bits() + 1).to_f64();
            let half_ulp = (next - stored(value.abs())) / 2.0;
            let share = (g - value).abs() / (half_ulp + tolerance);
            worst = worst.max(if share.is_finite() { share } else { 0.0 });
        }
    }
    Ok(worst)
}

/// Bit equality.
pub fn equal_bits(got: &[u32], want: &[u32]) -> Result<(), String> {
    if got.len() != want.len() {
        return Err(format!("{} elements instead of {}", got.len(), want.len()));
    }
    match got.iter().zip(want).position(|(g, w)| g != w) {
        None => Ok(()),
        Some(i) => Err(format!(
            "element {i}: {} ({:#x}) instead of {} ({:#x})",
            f32::from_bits(got[i]),
            got[i],
            f32::from_bits(want[i]),
            want[i]
        )),
    }
}

fn bounded(values: &[f32]) -> Vec<Bounded> {
    values.iter().map(|&v| Bounded::exact(v)).collect()
}

#[test]
fn rejects_what_it_must() {
    let ulp = f32::from_bits(1.0f32.to_bits() + 1);
    for (got, want) in [
        (vec![f32::NAN], vec![1.0]),
        (vec![1.0], vec![f32::NAN]),
        (vec![f32::INFINITY], vec![1.0]),
        (vec![f32::NEG_INFINITY], vec![f32::INFINITY]),
        (vec![-2.0], vec![-1.0]),
        (vec![2.0, 1.0], vec![1.0, 2.0]),
        (vec![ulp], vec![1.0]),
        (vec![], vec![1.0]),
        (vec![1.0, 1.0], vec![1.0]),
    ] {
        assert!(within_bound(&got, &bounded(&want)).is_err(), "{got:?} {want:?}");
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert!(equal_bits(&bits(&got), &bits(&want)).is_err(), "{got:?} {want:?}");
    }
}

/// 0 / 0 has no bound, and 1 / x none where x may be 0; neither may pass as "within".
#[test]
fn rejects_bounds_without_end() {
    let huge = Bounded::exact(f32::MAX) * Bounded::exact(f32::MAX);
    let vague = (huge * huge * huge * huge - huge * huge * huge * huge) * huge * huge;
    assert!(vague.value().is_finite() && vague.tolerance().is_infinite(), "{vague:?}");
    for got in [0.0, 1.0, f32::INFINITY] {
        assert!(within_bound(&[got], &[vague]).is_err(), "{got}");
        assert!(within_half(&[got], &[vague]).is_err(), "{got}");
    }
}

#[test]
fn accepts_what_it_must() {
    for v in [vec![], vec![1.5, -2.0, 0.0], vec![f32::INFINITY, f32::NEG_INFINITY, f32::NAN]] {
        assert_eq!(within_bound(&v, &bounded(&v)), Ok(0.0));
    }
}

/// A store that cuts digits off instead of rounding, one that rounds away from an exact tie to even,
/// and one that saturates instead of overflowing.
#[test]
fn rejects_other_roundings_to_half() {
    let ulp = 2f32.powi(-10);
    for (value, stored) in [
        (1.0 + 0.75 * ulp, 1.0),
        (1.0 + 0.5 * ulp, 1.0 + ulp),
        (-1.0 - 1.5 * ulp, -1.0 - ulp),
        (70_000.0, 65_504.0),
        (2f32.powi(-24), 0.0),
        (1.0, f32::NAN),
        (f32::NAN, 1.0),
        (f32::INFINITY, f32::NEG_INFINITY),
    ] {
        let want = bounded(&[value]);
        assert!(within_half(&[stored], &want).is_err(), "{value} stored as {stored}");
        let right = f16::from_f32(value).to_f32();
        assert!(within_half(&[right], &want).is_ok(), "{value} stored as {right}");
    }
    assert!(within_half(&[1.0], &[]).is_err());
}
