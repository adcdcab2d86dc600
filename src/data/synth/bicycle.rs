//! A cyclist: pedalling legs, two turning wheels, a frame.

use super::body::{Ellipsoid, Joints, Lengths, Limbs, Motion, SIDES, knee, upright, vec3};
use crate::rng::Rng;
use std::f64::consts::{PI, TAU};

const WHEEL_RADIUS: f64 = 0.34;
/// x of the axles relative to the rider's hip, m.
const AXLES: [f64; 2] = [-0.45, 0.57];
const CRANK: f64 = 0.17;
const SPOKES: usize = 12;

pub struct Bicycle {
    height: f64,
    lengths: Lengths,
    /// m/s. The top of a rim moves at twice this.
    speed: f64,
    /// Turns of the crank a second.
    cadence: f64,
    lean: f64,
    phase: f64,
}

impl Bicycle {
    pub fn draw(height: f64, rng: &mut Rng) -> Self {
        Bicycle {
            height,
            lengths: Lengths::of(height),
            speed: rng.range(1.8, 2.8),
            cadence: rng.range(0.8, 1.5),
            phase: rng.range(0.0, TAU),
            lean: rng.range(20.0, 45.0).to_radians(),
        }
    }

    pub fn speed(&self) -> f64 {
        self.speed
    }

    fn rider(&self, t: f64) -> Joints {
        let l = &self.lengths;
        let x = self.speed * t;
        let base = vec3(x, 0.0, 0.95 + 0.01 * (2.0 * TAU * self.cadence * t).sin());
        let neck = base + upright(self.lean) * l.torso;
        let mut sides = [Limbs::default(); 2];
        for (side, sign) in sides.iter_mut().zip(SIDES) {
            let opposite = if sign > 0.0 { 0.0 } else { PI };
            let (sin, cos) = (TAU * self.cadence * t + self.phase + opposite).sin_cos();
            side.hip = base + vec3(0.0, sign * l.hip, 0.0);
            side.ankle = vec3(x + 0.20 + CRANK * cos, sign * 0.1, 0.36 - CRANK * sin);
            side.knee = knee(side.hip, side.ankle, l);
            side.toe = side.ankle + vec3(l.foot, 0.0, -0.02);
            side.shoulder = neck + vec3(0.0, sign * l.shoulder, 0.0);
            side.hand = vec3(x + 0.62, sign * 0.22, 1.02);
            side.elbow = side.shoulder.lerp(side.hand, 0.5) + vec3(0.0, sign * 0.06, -0.05);
        }
        let head = neck + vec3(0.06, 0.0, 0.108 * self.height);
        Joints { base, neck, head, sides }
    }
}

impl Motion for Bicycle {
    fn pose(&self, t: f64, out: &mut Vec<Ellipsoid>) {
        self.rider(t).ellipsoids(&self.lengths, out);
        let x = self.speed * t;
        for axle in AXLES {
            for k in 0..SPOKES {
                let turned = x / WHEEL_RADIUS + TAU * k as f64 / SPOKES as f64 + self.phase;
                let (sin, cos) = turned.sin_cos();
                // The rim and the middle of the spoke, both lying along the direction of turning.
                for (rho, a) in [(WHEEL_RADIUS, 0.018), (0.6 * WHEEL_RADIUS, 0.012)] {
                    let centre = vec3(x + axle + rho * sin, 0.0, WHEEL_RADIUS + rho * cos);
                    out.push(Ellipsoid::new(centre, vec3(cos, 0.0, -sin), a, 0.05));
                }
            }
        }
        for (dx, z) in [(-0.1, 0.55), (0.25, 0.75), (0.5, 0.9)] {
            out.push(Ellipsoid::new(vec3(x + dx, 0.0, z), vec3(1.0, 0.0, 0.5), 0.03, 0.25));
        }
    }
}
