//! Walking, limping and running after Boulic, Magnenat-Thalmann and Thalmann, "A global human
//! walking model with real-time kinematic personification" (1990), with the constants V. C. Chen
//! uses for micro-Doppler. Running is that model past its range with wider joint angles.

use super::body::{Ellipsoid, Joints, Lengths, Limbs, Motion, SIDES, hanging, upright, vec3};
use super::curve::PeriodicCurve;
use std::f64::consts::TAU;

#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Gain of the arm swing; 1 is the model's.
    pub arm: f64,
    pub run: bool,
    /// Share taken off the left hip and knee angles; 0 is a symmetric gait.
    pub limp: f64,
}

pub const PLAIN: Style = Style { arm: 1.0, run: false, limp: 0.0 };

/// A person moving along +x from the origin. Angles in radians, lengths in metres.
#[derive(Debug, Clone)]
pub struct Gait {
    lengths: Lengths,
    style: Style,
    /// Speed in leg lengths a second: V_R of the model, the parameter of every curve.
    v: f64,
    /// Seconds per cycle of two steps.
    cycle: f64,
    /// Share of the cycle a foot is on the ground.
    support: f64,
    /// Phase at t = 0, in cycles.
    phase: f64,
    hip: PeriodicCurve,
    knee: PeriodicCurve,
    ankle: PeriodicCurve,
    elbow: PeriodicCurve,
    thorax: PeriodicCurve,
}

impl Gait {
    /// `v` in leg lengths a second, 0.4 to 2.6; `phase` in cycles.
    pub fn new(lengths: Lengths, v: f64, phase: f64, style: Style) -> Self {
        let cycle = 1.346 * v.sqrt() / v;
        let support = (0.752 * cycle - 0.143) / cycle;
        let angles = JointAngles::of(v, support, style.run);
        let thorax = [
            (0.1, 4.0 / 3.0 * v),
            (0.4, -4.5 / 3.0 * v),
            (0.6, -4.0 / 3.0 * v),
            (0.9, 4.5 / 3.0 * v),
        ];
        Gait {
            lengths,
            style,
            v,
            cycle,
            support,
            phase,
            hip: degrees(&angles.hip),
            knee: degrees(&angles.knee),
            ankle: degrees(&angles.ankle),
            elbow: degrees(&angles.elbow),
            thorax: degrees(&thorax),
        }
    }

    /// Mean forward speed, m/s.
    pub fn speed(&self) -> f64 {
        self.v * self.lengths.leg()
    }

    pub fn joints(&self, t: f64) -> Joints {
        let (l, v, run) = (&self.lengths, self.v, self.style.run);
        let leg = l.leg();
        let phase = t / self.cycle + self.phase;
        let wave = |turns: f64| (TAU * turns).sin();
        let (lateral, forward, lean) = sway_amplitudes(v);
        let rise = -0.015 * v + 0.015 * v * wave(2.0 * phase - 0.35);
        let bounce = if run { 1.8 } else { 1.0 };
        let base = vec3(
            self.speed() * t + leg * forward * wave(2.0 * phase + 2.0 * (0.625 - self.support)),
            leg * lateral * wave(phase - 0.1),
            leg * (1.0 + bounce * rise),
        );
        let lean = lean * (1.0 - wave(2.0 * phase - 0.1)) + if run { 8.0 } else { 0.0 };
        let up = upright(lean.to_radians());
        let neck = base + up * l.torso;
        // Rotations about the vertical carry the hip and shoulder joints around the trunk.
        let pelvis = (-4.0 * v * (TAU * phase).cos()).to_radians().sin_cos();
        let thorax = self.thorax.at(phase).sin_cos();
        let yawed = |(sin, cos): (f64, f64), half: f64| vec3(-half * sin, half * cos, 0.0);

        let mut sides = [Limbs::default(); 2];
        for (side, sign) in sides.iter_mut().zip(SIDES) {
            let left = sign > 0.0;
            let p = if left { phase + 0.5 } else { phase };
            let bend = if left { 1.0 - self.style.limp } else { 1.0 };
            side.hip = base + yawed(pelvis, sign * l.hip);
            let thigh = bend * self.hip.at(p);
            side.knee = side.hip + hanging(l.thigh, thigh);
            let shank = thigh - bend * self.knee.at(p);
            side.ankle = side.knee + hanging(l.shank, shank);
            let (sin, cos) = (shank + self.ankle.at(p)).sin_cos();
            side.toe = side.ankle + vec3(l.foot * cos, 0.0, l.foot * sin);
            side.shoulder = neck + yawed(thorax, sign * l.shoulder);
            let swing = self.style.arm * if run { 1.5 } else { 1.0 };
            let arm = swing * (3.0 - 4.94 * v - 9.88 * v * (TAU * p).cos()).to_radians();
            side.elbow = side.shoulder + hanging(l.upper_arm, arm);
            side.hand = side.elbow + hanging(l.forearm, arm + self.elbow.at(p));
        }
        Joints { base, neck, head: neck + up * l.head, sides }
    }
}

impl Motion for Gait {
    fn pose(&self, t: f64, out: &mut Vec<Ellipsoid>) {
        self.joints(t).ellipsoids(&self.lengths, out);
    }
}

/// Amplitudes of the pelvis' sideways and forward motion (leg lengths) and of the trunk's lean
/// (degrees).
fn sway_amplitudes(v: f64) -> (f64, f64, f64) {
    if v < 0.5 {
        let hump = v - v * v;
        (0.128 * hump, 0.084 * hump, 8.0 * hump)
    } else {
        (-0.032, -0.021, 2.0)
    }
}

fn degrees(points: &[(f64, f64)]) -> PeriodicCurve {
    let points: Vec<(f64, f64)> = points.iter().map(|&(x, y)| (x, y.to_radians())).collect();
    PeriodicCurve::new(&points)
}

/// Control points (phase, degrees) of the flexion curves; the model changes form at 0.5 and 1.3
/// leg lengths a second.
struct JointAngles {
    hip: Vec<(f64, f64)>,
    knee: [(f64, f64); 4],
    ankle: [(f64, f64); 5],
    elbow: [(f64, f64); 3],
}

impl JointAngles {
    fn of(v: f64, support: f64, run: bool) -> Self {
        let mut angles = if v < 0.5 {
            Self::slow(v, support)
        } else if v < 1.3 {
            Self::medium(v, support)
        } else {
            Self::fast(v, support)
        };
        if run {
            for (_, hip) in &mut angles.hip {
                *hip *= 1.35;
            }
            for (k, (_, knee)) in angles.knee.iter_mut().enumerate() {
                *knee = [*knee + 12.0, *knee + 8.0, 105.0, *knee + 12.0][k];
            }
            for ((_, elbow), held) in angles.elbow.iter_mut().zip([75.0, 95.0, 80.0]) {
                *elbow = held;
            }
        }
        angles
    }

    fn slow(v: f64, support: f64) -> Self {
        JointAngles {
            hip: vec![(-0.1, 50.0 * v), (0.5, -30.0 * v)],
            knee: [(0.17, 3.0), (0.4, 3.0), (0.75, 140.0 * v), (1.0, 3.0)],
            ankle: [
                (0.0, -3.0),
                (0.08, -30.0 * v - 3.0),
                (0.5, 22.0 * v - 3.0),
                (support, -34.0 * v - 3.0),
                (0.85, -3.0),
            ],
            elbow: [(0.05, 6.0 * v + 3.0), (0.5, 34.0 * v + 3.0), (0.9, 10.0 * v + 3.0)],
        }
    }

    fn medium(v: f64, support: f64) -> Self {
        let b = (v - 0.5) / 0.8;
        JointAngles {
            hip: vec![(-0.1, 25.0), (0.5, -15.0)],
            knee: [(0.17, 3.0), (0.4, 3.0), (0.75, 70.0), (1.0, 3.0)],
            ankle: [(0.0, -3.0), (0.08, -18.0), (0.5, 8.0), (support, -20.0), (0.85, -3.0)],
            elbow: [(0.05, 8.0 * b + 6.0), (0.5 + 0.01 * b, 24.0 * b + 20.0), (0.9, 9.0 * b + 8.0)],
        }
    }

    fn fast(v: f64, support: f64) -> Self {
        let g = (v - 1.3) / 1.7;
        JointAngles {
            hip: vec![(0.2 * g - 0.1, 5.0 * g + 25.0), (0.5, -15.0), (0.9, 6.0 * g + 25.0)],
            knee: [
                (0.17 - 0.05 * g, 3.0 + 22.0 * g),
                (0.4, 3.0),
                (0.75 - 0.05 * g, 70.0 - 5.0 * g),
                (1.0 - 0.03 * g, 3.0 + 3.0 * g),
            ],
            ankle: [
                (0.0, 5.0 * g - 3.0),
                (0.08, 4.0 * g - 18.0),
                (0.5 - 0.1 * g, 8.0 - 3.0 * g),
                (support, -20.0 - 8.0 * g),
                (0.85, 5.0 * g - 3.0),
            ],
            elbow: [
                (0.05, 14.0 - 6.0 * g),
                (0.51 + 0.04 * g, 44.0 + 26.0 * g),
                (0.9 - 0.1 * g, 17.0 - 6.0 * g),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::body::Vec3;
    use super::*;

    /// Joints of the numpy prototype of the simulator, `walk_joints(np.array([.37]), 1.7, V, rng,
    /// ...)` with a `rng.uniform()` of 0.3, one case per form of the model and style: base, left
    /// toe, left hand, right ankle, right hand.
    #[test]
    fn joints_match_the_prototype() {
        let cases = [
            (
                0.4,
                PLAIN,
                [
                    vec3(0.108693510805, 0.0182616175792, 0.826806665559),
                    vec3(0.482176696457, 0.180550012515, 0.0544662074068),
                    vec3(0.144079350664, 0.238399968488, 0.63642109904),
                    vec3(-0.121405060462, -0.144026777357, 0.0284760759354),
                    vec3(0.295235820752, -0.20187673333, 0.661557005462),
                ],
            ),
            (
                1.0,
                Style { limp: 0.6, ..PLAIN },
                [
                    vec3(0.297814234247, -0.00419689863943, 0.810266390303),
                    vec3(0.519108531451, 0.157838885384, -0.0507386301542),
                    vec3(0.258204176047, 0.215890316653, 0.625340041231),
                    vec3(-0.0835748936868, -0.166232682662, 0.120882095839),
                    vec3(0.576116792247, -0.224284113932, 0.707904336429),
                ],
            ),
            (
                1.6,
                Style { arm: 1.2, ..PLAIN },
                [
                    vec3(0.477852311986, 0.00788754592836, 0.807930994773),
                    vec3(0.73880473643, 0.169873832012, -0.04065692083),
                    vec3(0.388964443713, 0.227935155256, 0.631917613041),
                    vec3(0.112174064656, -0.154098740156, 0.178194635895),
                    vec3(0.759114686342, -0.2121600634, 0.726152811478),
                ],
            ),
            (
                2.3,
                Style { run: true, ..PLAIN },
                [
                    vec3(0.710552424253, 0.0179004754384, 0.808907962789),
                    vec3(0.890471810648, 0.18016119859, -0.0495553784646),
                    vec3(0.991610559955, 0.23803288063, 0.817135953864),
                    vec3(0.390617518012, -0.144360247713, 0.418282829708),
                    vec3(1.10375791659, -0.202231929753, 0.920471844391),
                ],
            ),
        ];
        for (v, style, expected) in cases {
            let j = Gait::new(Lengths::of(1.7), v, 0.3, style).joints(0.37);
            let [left, right] = j.sides;
            let got: [Vec3; 5] = [j.base, left.toe, left.hand, right.ankle, right.hand];
            for (k, (got, want)) in got.into_iter().zip(expected).enumerate() {
                let off = got - want;
                // 12 printed digits.
                assert!(off.dot(off).sqrt() < 1e-11, "V {v}, joint {k}: {got:?}, not {want:?}");
            }
        }
    }
}
