//! Curves of motion: joint angles over a gait cycle and single reaching movements.

/// Smooth step of least mean-square jerk, 0 at `start` and 1 from `start + duration` on:
/// u^3 (10 - 15 u + 6 u^2) (Flash and Hogan, "The coordination of arm movements", 1985).
pub fn minimum_jerk(t: f64, start: f64, duration: f64) -> f64 {
    let u = ((t - start) / duration).clamp(0.0, 1.0);
    u * u * u * (10.0 + u * (6.0 * u - 15.0))
}

/// Monotone cubic interpolation (PCHIP, Fritsch and Carlson 1980, with the weighted harmonic
/// mean of Fritsch and Butland 1984 as slope) of a function of period 1.
///
/// It never overshoots its control points, so a knee that rests at 3 degrees does not bend
/// backwards between two of them, as it would with a cubic spline.
#[derive(Debug, Clone)]
pub struct PeriodicCurve {
    /// Sorted by `start`; the last piece reaches past 1 to the first control point.
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, Copy)]
struct Piece {
    start: f64,
    width: f64,
    value: f64,
    slope: f64,
    next_value: f64,
    next_slope: f64,
}

impl PeriodicCurve {
    /// Control points (phase, value) in any order; phases are taken modulo 1 and must differ.
    pub fn new(points: &[(f64, f64)]) -> Self {
        let mut points: Vec<(f64, f64)> = points.iter().map(|&(x, y)| (x - x.floor(), y)).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let n = points.len();
        let next = |k: usize| (k + 1) % n;
        let width: Vec<f64> = (0..n)
            .map(|k| points[next(k)].0 - points[k].0 + if k + 1 == n { 1.0 } else { 0.0 })
            .collect();
        debug_assert!(width.iter().all(|&h| h > 1e-9), "two control points at one phase");
        let rise: Vec<f64> = (0..n).map(|k| (points[next(k)].1 - points[k].1) / width[k]).collect();
        let slope: Vec<f64> = (0..n)
            .map(|k| {
                let before = (k + n - 1) % n;
                if rise[before] * rise[k] <= 0.0 {
                    return 0.0; // a local extremum stays one
                }
                let w1 = 2.0 * width[k] + width[before];
                let w2 = width[k] + 2.0 * width[before];
                (w1 + w2) / (w1 / rise[before] + w2 / rise[k])
            })
            .collect();
        let pieces = (0..n)
            .map(|k| Piece {
                start: points[k].0,
                width: width[k],
                value: points[k].1,
                slope: slope[k],
                next_value: points[next(k)].1,
                next_slope: slope[next(k)],
            })
            .collect();
        PeriodicCurve { pieces }
    }

    /// Value at any phase, in cubic Hermite form.
    pub fn at(&self, phase: f64) -> f64 {
        let mut u = phase - phase.floor();
        let piece = match self.pieces.iter().rev().find(|p| p.start <= u) {
            Some(piece) => piece,
            None => {
                u += 1.0; // before the first control point: still on the last piece
                &self.pieces[self.pieces.len() - 1]
            }
        };
        let s = (u - piece.start) / piece.width;
        let (s2, s3) = (s * s, s * s * s);
        (2.0 * s3 - 3.0 * s2 + 1.0) * piece.value
            + (s3 - 2.0 * s2 + s) * piece.width * piece.slope
            + (3.0 * s2 - 2.0 * s3) * piece.next_value
            + (s3 - s2) * piece.width * piece.next_slope
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type ControlPoints = &'static [(f64, f64)];

    /// Values of the numpy prototype of the simulator:
    /// `x = np.array([-1.3, -.05, 0, .1, .3, .4, .47, .6, .75, .999, 2.62])` and
    /// `pchip_periodic([.17,.4,.75,1], [3,3,70,3], x)` (knee),
    /// `pchip_periodic([0,.08,.5,.62,.85], [-3,-18,8,-20,-3], x)` (ankle),
    /// `pchip_periodic([-.02,.5,.9], [27,-15,27.4], x)` (hip), printed with 12 digits.
    #[test]
    fn periodic_curve_matches_the_prototype() {
        let phases = [-1.3, -0.05, 0.0, 0.1, 0.3, 0.4, 0.47, 0.6, 0.75, 0.999, 2.62];
        let cases: [(ControlPoints, [f64; 11]); 3] = [
            (
                &[(0.17, 3.0), (0.4, 3.0), (0.75, 70.0), (1.0, 3.0)],
                [
                    66.2886297376,
                    9.968,
                    3.0,
                    3.0,
                    3.0,
                    3.0,
                    9.968,
                    43.6297376093,
                    70.0,
                    3.003207424,
                    49.1366297376,
                ],
            ),
            (
                &[(0.0, -3.0), (0.08, -18.0), (0.5, 8.0), (0.62, -20.0), (0.85, -3.0)],
                [
                    -15.2606229966,
                    -3.0,
                    -3.0,
                    -17.8287441961,
                    -4.07213043948,
                    4.28009934132,
                    7.62099125364,
                    -17.9259259259,
                    -9.8463877702,
                    -3.0,
                    -20.0,
                ],
            ),
            (
                &[(-0.02, 27.0), (0.5, -15.0), (0.9, 27.4)],
                [
                    6.2,
                    27.2173199066,
                    26.6751817587,
                    20.7723429239,
                    -1.5068009699,
                    -11.0579360801,
                    -14.609382105,
                    -8.375,
                    13.984375,
                    26.6992888129,
                    -5.8416,
                ],
            ),
        ];
        for (points, expected) in cases {
            let curve = PeriodicCurve::new(points);
            for (phase, want) in phases.into_iter().zip(expected) {
                let got = curve.at(phase);
                // 12 printed digits of numbers below 100.
                assert!((got - want).abs() < 1e-9, "{points:?} at {phase}: {got}, not {want}");
            }
        }
    }

    #[test]
    fn minimum_jerk_rests_at_both_ends() {
        assert_eq!(minimum_jerk(0.9, 1.0, 2.0), 0.0);
        assert_eq!(minimum_jerk(2.0, 1.0, 2.0), 0.5);
        assert_eq!(minimum_jerk(3.5, 1.0, 2.0), 1.0);
        // Peak speed 15/8 of the mean; the central difference errs by h^2/6 |s'''| = 1e-7.
        let h = 1e-4;
        let speed = (minimum_jerk(2.0 + h, 1.0, 2.0) - minimum_jerk(2.0 - h, 1.0, 2.0)) / (2.0 * h);
        assert!((speed - 15.0 / 16.0).abs() < 1e-6, "{speed}");
    }
}
