//! Falling forward: a standing or walking body tips about its ankles as a rigid rod.

use super::body::{Ellipsoid, Motion, vec3};
use super::curve::minimum_jerk;
use super::gait::{Gait, PLAIN};
use super::posture::Stance;
use crate::rng::Rng;
use std::f64::consts::FRAC_PI_2;

const GRAVITY: f64 = 9.81;

pub struct Fall {
    stance: Stance,
    /// The gait before the fall, if the person was walking, and its speed in m/s.
    walk: Option<(Gait, f64)>,
    /// Time at which balance is lost, s.
    start: f64,
    /// Tilt of the body from the vertical, radians, at t = i / rate.
    tilt: Vec<f64>,
    rate: f64,
}

impl Fall {
    /// Integrates the tilt over `samples` steps of 1/`rate` s. Half of the falls start from
    /// walking.
    pub fn draw(height: f64, rate: f64, samples: usize, rng: &mut Rng) -> Self {
        let stance = Stance::new(height, rng);
        let start = rng.range(0.3, 1.1);
        // Below 1 because the knees give way: the rod is not driven by its full weight.
        let drive = rng.range(0.45, 0.9);
        let first = rng.range(4.0, 9.0).to_radians();
        let restitution = rng.range(0.05, 0.2);
        let walking = rng.uniform() < 0.5;
        let tilt = integrate_tilt(
            &Rod { start, acceleration: drive * 1.5 * GRAVITY / height, first, restitution },
            rate,
            samples,
        );
        let walk = walking.then(|| {
            let speed = rng.range(0.6, 1.3);
            let relative = (speed / stance.lengths.leg()).max(0.4);
            (Gait::new(stance.lengths, relative, rng.uniform(), PLAIN), speed)
        });
        Fall { stance, walk, start, tilt, rate }
    }

    fn tilt_at(&self, t: f64) -> f64 {
        let last = self.tilt.len() - 1;
        let x = (t * self.rate).clamp(0.0, last as f64);
        let i = (x as usize).min(last - 1);
        let share = x - i as f64;
        self.tilt[i] * (1.0 - share) + self.tilt[i + 1] * share
    }
}

struct Rod {
    start: f64,
    /// 3 g k / (2 H), 1/s^2.
    acceleration: f64,
    first: f64,
    restitution: f64,
}

/// theta'' = acceleration sin theta (semi-implicit Euler) from `first` at `start`, with a bounce
/// on the ground at 90 degrees; before that, an eased lean to `first` within a quarter second.
fn integrate_tilt(rod: &Rod, rate: f64, samples: usize) -> Vec<f64> {
    let dt = 1.0 / rate;
    let (mut angle, mut speed) = (rod.first, 0.0);
    (0..samples.max(2))
        .map(|i| {
            let t = i as f64 * dt;
            if t < rod.start {
                return rod.first * minimum_jerk(t, rod.start - 0.25, 0.25);
            }
            speed += rod.acceleration * angle.sin() * dt;
            angle += speed * dt;
            if angle > FRAC_PI_2 {
                angle = FRAC_PI_2;
                // Slower than 0.3 rad/s it stays down.
                speed = if speed.abs() > 0.3 { -rod.restitution * speed } else { 0.0 };
            }
            angle
        })
        .collect()
}

impl Motion for Fall {
    fn pose(&self, t: f64, out: &mut Vec<Ellipsoid>) {
        let mut joints = self.stance.joints(t, &self.stance.upright_pose());
        let mut travelled = 0.0;
        if let Some((gait, speed)) = &self.walk {
            let walking = gait.joints(t);
            let offset = vec3(walking.base.x, 0.0, 0.0);
            let standing = minimum_jerk(t, self.start - 0.2, 0.3);
            joints = walking.map(|p| p - offset).blend(&joints, standing);
            travelled = speed * (t.min(self.start) - self.start);
        }
        let (sin, cos) = self.tilt_at(t).sin_cos();
        let fallen = joints.map(|p| {
            vec3(p.x * cos + p.z * sin + travelled, p.y, (p.z * cos - p.x * sin).max(0.05))
        });
        fallen.ellipsoids(&self.stance.lengths, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Energy of the rod: theta'^2 = 2 a cos(theta_0) on reaching the ground. The step of 1/2048 s
    /// turns the rod by 0.002 rad at most, which leaves the speed 0.1 % uncertain.
    #[test]
    fn rod_hits_the_ground_with_the_energy_it_lost() {
        let (rate, first, acceleration) = (2048.0, 0.1f64, 6.0f64);
        let rod = Rod { start: 0.5, acceleration, first, restitution: 0.1 };
        let tilt = integrate_tilt(&rod, rate, 6400);
        let fastest = tilt.windows(2).map(|w| w[1] - w[0]).skip(1100).fold(0.0, f64::max) * rate;
        let wanted = (2.0 * acceleration * first.cos()).sqrt();
        assert!((fastest / wanted - 1.0).abs() < 3e-3, "{fastest} rad/s, not {wanted}");
        assert_eq!(tilt[0], 0.0);
        assert_eq!(tilt[6399], FRAC_PI_2, "it ends on the ground");
        assert!(tilt.iter().all(|&a| a <= FRAC_PI_2));
    }
}
