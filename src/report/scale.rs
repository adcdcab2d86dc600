//! Axes: from values to places, and the round numbers written beside them.

/// How an axis grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scale {
    #[default]
    Linear,
    /// Equal ratios are equal distances. Values that are not positive have no place.
    Log,
    /// The same with powers of two beside it: rates in bits, sizes of codebooks.
    Log2,
}

impl Scale {
    /// Has this value a place on such an axis?
    pub fn admits(self, value: f64) -> bool {
        value.is_finite() && (self == Scale::Linear || value > 0.0)
    }

    fn apply(self, value: f64) -> f64 {
        match self {
            Scale::Linear => value,
            Scale::Log => value.log10(),
            Scale::Log2 => value.log2(),
        }
    }

    /// A value as it is written beside such an axis: powers of two in full while they are short.
    pub fn label(self, value: f64) -> String {
        let power = value.log2();
        match self {
            Scale::Log2 if power.fract() == 0.0 && power.abs() > 16.0 => format!("2^{power}"),
            Scale::Log2 => precise(value, 6),
            _ => number(value),
        }
    }
}

/// A range of values, and how they are spread over it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Axis {
    scale: Scale,
    /// Ends of the range; exponents on a logarithmic axis.
    low: f64,
    high: f64,
}

/// Left empty beyond the outermost values, as a share of the range.
const AIR: f64 = 0.04;

impl Axis {
    /// Holds all the values that have a place, with a little air; 0 to 1 (or one decade) where there
    /// are none.
    pub fn around(scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values
            .filter(|&v| scale.admits(v))
            .map(|v| scale.apply(v))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |r, v| (r.0.min(v), r.1.max(v)));
        if low > high {
            return Axis { scale, low: 0.0, high: 1.0 };
        }
        let least = match scale {
            Scale::Log => 0.1,
            Scale::Log2 => 0.3,
            Scale::Linear if low == high => (0.05 * low.abs()).max(1e-3),
            Scale::Linear => 0.0,
        };
        let air = (AIR * (high - low)).max(least);
        Axis { scale, low: low - air, high: high + air }
    }

    /// The same axis beginning at zero, if all its values are positive and it is linear.
    pub fn from_zero(self) -> Self {
        match self.scale {
            Scale::Linear if self.high > 0.0 => Axis { low: self.low.min(0.0), ..self },
            _ => self,
        }
    }

    /// Where a value lies: 0 at the beginning, 1 at the end.
    pub fn place(&self, value: f64) -> f64 {
        (self.scale.apply(value) - self.low) / (self.high - self.low)
    }

    /// Round values inside the range, at most about `most` of them: steps of 1, 2 or 5 times a power
    /// of ten; on a logarithmic axis 1, 2 and 5 of each decade, or whole decades where there are many;
    /// powers of two on an axis of those.
    pub fn ticks(&self, most: usize) -> Vec<f64> {
        let most = most.max(2);
        if self.scale == Scale::Linear {
            return linear_ticks(self.low, self.high, most);
        }
        if self.scale == Scale::Log2 {
            return self.doublings(most);
        }
        let decades = self.high - self.low;
        // A few more than asked for rather than one alone.
        let dense = 3.0 * decades <= most as f64 + 2.5;
        let steps: &[f64] = if dense { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let every = (decades / most as f64).ceil().max(1.0) as i32;
        let powers = self.low.floor() as i32..=self.high.ceil() as i32;
        let found: Vec<f64> = powers
            .filter(|p| p.rem_euclid(every) == 0)
            .flat_map(|p| steps.iter().map(move |&s| times_power(s, p)))
            .filter(|v| (self.low..=self.high).contains(&v.log10()))
            .collect();
        // Less than a decade may hold none of these.
        if found.len() < 2 && decades < 1.0 {
            return linear_ticks(10f64.powf(self.low), 10f64.powf(self.high), most);
        }
        found
    }

    fn doublings(&self, most: usize) -> Vec<f64> {
        let every = ((self.high - self.low) / most as f64).ceil().max(1.0) as i32;
        let powers = self.low.ceil() as i32..=self.high.floor() as i32;
        let found: Vec<f64> =
            powers.filter(|p| p.rem_euclid(every) == 0).map(|p| 2f64.powi(p)).collect();
        if found.len() < 2 {
            return linear_ticks(self.low.exp2(), self.high.exp2(), most);
        }
        found
    }
}

fn linear_ticks(low: f64, high: f64, most: usize) -> Vec<f64> {
    let rough = (high - low) / most as f64;
    if !(rough.is_finite() && rough > 0.0) {
        return vec![low];
    }
    let power = rough.log10().floor() as i32;
    let fits = |&(digit, p): &(f64, i32)| times_power(digit, p) >= rough * (1.0 - 1e-9);
    let candidates = [(1.0, power), (2.0, power), (5.0, power), (10.0, power)];
    let (digit, power) = candidates.into_iter().find(fits).unwrap_or((10.0, power));
    let step = times_power(digit, power);
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    // From the integer, so that the third tick is 0.3 and not 0.30000000000000004.
    (first..=last).map(|i| times_power(i as f64 * digit, power)).collect()
}

/// `value * 10^power`, correctly rounded while the power of ten is exact.
fn times_power(value: f64, power: i32) -> f64 {
    if power < 0 { value / 10f64.powi(-power) } else { value * 10f64.powi(power) }
}

/// A number beside an axis: 20000 as `20k`, 0.05 as `0.05`, 0.00002 as `2e-5`.
pub fn number(value: f64) -> String {
    let size = value.abs();
    for (unit, suffix) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if size >= unit && size < 1e13 {
            return format!("{}{suffix}", significant(value / unit, 4));
        }
    }
    precise(significant(value, 4), 4)
}

/// A number in a table or a text, with so many significant digits.
pub fn precise(value: f64, digits: usize) -> String {
    let rounded = significant(value, digits);
    let size = rounded.abs();
    if size != 0.0 && !(1e-3..1e13).contains(&size) {
        format!("{rounded:e}")
    } else {
        format!("{rounded}")
    }
}

/// The nearest value with so many significant digits; -0 as 0.
fn significant(value: f64, digits: usize) -> f64 {
    let short = format!("{value:.*e}", digits.max(1) - 1);
    short.parse::<f64>().map_or(value, |v| v + 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_ticks_are_round() {
        let ticks = |low: f64, high: f64| Axis { scale: Scale::Linear, low, high }.ticks(6);
        assert_eq!(ticks(0.0, 1.0), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        assert_eq!(ticks(-0.02, 0.52), [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]);
        assert_eq!(ticks(13.0, 1250.0), [500.0, 1000.0]);
        assert_eq!(ticks(-3.0, 3.0), [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0]);
        for (low, high) in [(1e-12, 3e-12), (5.0, 5.0 + 1e-9), (-1e9, 1e12), (0.1, 0.100_01)] {
            let ticks = ticks(low, high);
            assert!((2..=7).contains(&ticks.len()), "{low} {high}: {ticks:?}");
            assert!(ticks.iter().all(|t| (low..=high).contains(t)), "{ticks:?}");
        }
    }

    #[test]
    fn log_ticks() {
        let ticks =
            |low: f64, high: f64| Axis::around(Scale::Log, [low, high].into_iter()).ticks(6);
        assert_eq!(ticks(1.0, 1000.0), [1.0, 10.0, 100.0, 1000.0]);
        assert_eq!(ticks(0.02, 0.5), [0.02, 0.05, 0.1, 0.2, 0.5]);
        assert_eq!(ticks(0.01, 0.5), [0.01, 0.02, 0.05, 0.1, 0.2, 0.5]);
        assert_eq!(ticks(1e-30, 1e30), [1e-22, 1e-11, 1.0, 1e11, 1e22]);
        for (low, high) in [(3.0, 3.0), (3.1, 4.2), (0.5, 0.6)] {
            assert!(ticks(low, high).len() >= 2, "{low} {high}");
        }
    }

    #[test]
    fn powers_of_two() {
        let ticks =
            |low: f64, high: f64| Axis::around(Scale::Log2, [low, high].into_iter()).ticks(6);
        assert_eq!(ticks(64.0, 1024.0), [64.0, 128.0, 256.0, 512.0, 1024.0]);
        assert_eq!(ticks(1.0, 1_048_576.0), [1.0, 16.0, 256.0, 4096.0, 65_536.0, 1_048_576.0]);
        assert!(ticks(100.0, 101.0).len() >= 2);
        let labels = [1024.0, 65_536.0, 1_048_576.0, 0.5].map(|v| Scale::Log2.label(v));
        assert_eq!(labels, ["1024", "65536", "2^20", "0.5"]);
    }

    #[test]
    fn values_lie_inside_and_impossible_ones_nowhere() {
        for scale in [Scale::Linear, Scale::Log, Scale::Log2] {
            let values = [f64::NAN, 2.0, 8.0, f64::INFINITY];
            let axis = Axis::around(scale, values.into_iter());
            assert!(axis.place(2.0) > 0.0 && axis.place(8.0) < 1.0);
            assert!(axis.place(4.0) > axis.place(2.0));
            let none = Axis::around(scale, std::iter::empty());
            assert!(none.ticks(5).len() >= 2 && none.place(1.0).is_finite());
        }
        assert!(!Scale::Log.admits(0.0) && Scale::Linear.admits(0.0));
        let zero = Axis::around(Scale::Linear, [3.0, 9.0].into_iter()).from_zero();
        assert_eq!(zero.place(0.0), 0.0);
        let same = Axis::around(Scale::Linear, [7.0].into_iter());
        assert!((same.place(7.0) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn numbers() {
        let cases = [
            (0.0, "0"),
            (-0.0, "0"),
            (20_000.0, "20k"),
            (2e6, "2M"),
            (0.05, "0.05"),
            (2e-5, "2e-5"),
            (-1500.0, "-1.5k"),
            (0.1 + 0.2, "0.3"),
            (999.0, "999"),
            (1e15, "1e15"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
        assert_eq!(precise(15.412_068, 5), "15.412");
        assert_eq!(precise(1234.0, 5), "1234");
    }
}
