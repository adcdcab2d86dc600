//! A bird in flapping, sometimes gliding, flight: two-link wings on a small body.

use super::body::{Ellipsoid, Motion, vec3};
use super::curve::minimum_jerk;
use crate::rng::Rng;
use std::f64::consts::TAU;

pub struct Bird {
    /// m/s.
    speed: f64,
    altitude: f64,
    /// Wing beats a second, and their phase in radians.
    rate: f64,
    phase: f64,
    /// Lengths of the inner and outer wing, m.
    inner: f64,
    outer: f64,
    /// Flap amplitudes of the two links, radians.
    flap: [f64; 2],
    /// Share of the flapping that stops at `glide_start` s.
    glide: f64,
    glide_start: f64,
}

impl Bird {
    pub fn draw(rng: &mut Rng) -> Self {
        let inner = rng.range(0.18, 0.5);
        Bird {
            rate: rng.range(1.6, 4.5),
            inner,
            outer: inner * rng.range(0.8, 1.2),
            speed: rng.range(1.5, 4.0),
            flap: [
                (40.0 * rng.range(0.8, 1.2)).to_radians(),
                (30.0 * rng.range(0.8, 1.2)).to_radians(),
            ],
            phase: rng.range(0.0, TAU),
            glide: if rng.uniform() < 0.35 { 0.85 } else { 0.0 },
            glide_start: rng.range(1.2, 2.2),
            altitude: rng.range(1.5, 4.0),
        }
    }

    pub fn speed(&self) -> f64 {
        self.speed
    }
}

impl Motion for Bird {
    fn pose(&self, t: f64, out: &mut Vec<Ellipsoid>) {
        let (sin, cos) = (TAU * self.rate * t + self.phase).sin_cos();
        let flapping = 1.0 - self.glide * minimum_jerk(t, self.glide_start, 0.4);
        let inner = self.flap[0] * cos * flapping + 15f64.to_radians();
        let bend = self.flap[1] * cos * flapping + 40f64.to_radians();
        let twist = 20f64.to_radians() * sin * flapping;
        // The body sinks as the wings push up.
        let body = vec3(self.speed * t, 0.0, self.altitude - 0.02 * sin * flapping);
        out.push(Ellipsoid::new(body, vec3(1.0, 0.0, 0.0), 0.07, 0.16));
        for sign in [1.0, -1.0] {
            let elbow = body + vec3(0.0, sign * self.inner * inner.cos(), self.inner * inner.sin());
            let outer = inner - bend;
            let tip = elbow
                + vec3(-twist.sin() * outer.cos(), sign * twist.cos() * outer.cos(), outer.sin())
                    * self.outer;
            for (from, to, a, length) in
                [(body, elbow, 0.035, self.inner), (elbow, tip, 0.028, self.outer)]
            {
                for share in [0.25, 0.5, 0.75, 1.0] {
                    out.push(Ellipsoid::new(from.lerp(to, share), to - from, a, length / 4.0));
                }
            }
        }
    }
}
