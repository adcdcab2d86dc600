//! People who stay where they stand: sitting down, standing up, bending, waving, boxing.
//!
//! The ankles are fixed, hip and trunk follow a few time courses, and the knees are where the
//! legs can reach.

use super::body::{Ellipsoid, Joints, Lengths, Limbs, Motion, SIDES, hanging, knee, upright, vec3};
use super::curve::minimum_jerk;
use crate::rng::Rng;
use std::f64::consts::{PI, TAU};

/// Directions of one arm, radians forward from hanging.
#[derive(Debug, Clone, Copy)]
pub struct Arm {
    pub upper: f64,
    pub forearm: f64,
}

/// What a posture prescribes at one instant; arms are left, right.
#[derive(Debug, Clone, Copy)]
pub struct Pose {
    pub hip_x: f64,
    pub hip_z: f64,
    pub lean: f64,
    pub arms: [Arm; 2],
}

/// Arms that hang and follow a trunk leaning by `lean`.
pub fn relaxed_arms(lean: f64) -> [Arm; 2] {
    [Arm { upper: 0.6 * lean, forearm: 0.6 * lean + 0.25 }; 2]
}

/// A person with both feet on the ground who breathes: the hip sways by millimetres.
#[derive(Debug, Clone)]
pub struct Stance {
    pub height: f64,
    pub lengths: Lengths,
    sway: [f64; 2],
}

impl Stance {
    pub fn new(height: f64, rng: &mut Rng) -> Self {
        let sway = [rng.range(0.0, TAU), rng.range(0.0, TAU)];
        Stance { height, lengths: Lengths::of(height), sway }
    }

    /// Hip height when standing at ease.
    pub fn standing_hip(&self) -> f64 {
        self.lengths.leg() + 0.03 * self.height
    }

    pub fn joints(&self, t: f64, pose: &Pose) -> Joints {
        let l = &self.lengths;
        let sway = 0.004 * (TAU * 0.27 * t + self.sway[0]).sin()
            + 0.002 * (TAU * 0.31 * t + self.sway[1]).sin();
        let base = vec3(pose.hip_x + sway, 0.0, pose.hip_z);
        let up = upright(pose.lean);
        let neck = base + up * l.torso;
        let mut sides = [Limbs::default(); 2];
        for ((side, sign), arm) in sides.iter_mut().zip(SIDES).zip(&pose.arms) {
            side.hip = base + vec3(0.0, sign * l.hip, 0.0);
            side.ankle = vec3(0.0, sign * l.hip, 0.04 * self.height);
            side.knee = knee(side.hip, side.ankle, l);
            side.toe = side.ankle + vec3(l.foot, 0.0, -0.02);
            side.shoulder = neck + vec3(0.0, sign * l.shoulder, 0.0);
            side.elbow = side.shoulder + hanging(l.upper_arm, arm.upper);
            side.hand = side.elbow + hanging(l.forearm, arm.forearm);
        }
        Joints { base, neck, head: neck + up * l.head, sides }
    }

    /// Standing still, arms hanging.
    pub fn upright_pose(&self) -> Pose {
        Pose { hip_x: 0.0, hip_z: self.standing_hip(), lean: 0.0, arms: relaxed_arms(0.0) }
    }
}

/// A stance with its time courses.
pub struct Posture {
    pub stance: Stance,
    pub action: Action,
}

impl Motion for Posture {
    fn pose(&self, t: f64, out: &mut Vec<Ellipsoid>) {
        let pose = self.action.at(t, &self.stance);
        self.stance.joints(t, &pose).ellipsoids(&self.stance.lengths, out);
    }
}

pub enum Action {
    Sit(Sit),
    Bend(Bend),
    Wave(Wave),
    Box(Boxing),
}

impl Action {
    fn at(&self, t: f64, stance: &Stance) -> Pose {
        match self {
            Action::Sit(a) => a.at(t, stance),
            Action::Bend(a) => a.at(t, stance),
            Action::Wave(a) => a.at(t, stance),
            Action::Box(a) => a.at(t, stance),
        }
    }
}

/// Sitting down, or standing up, which is the same film run backwards.
pub struct Sit {
    start: f64,
    duration: f64,
    /// How far the hip moves back, m.
    back: f64,
    /// Hip height when seated, in body heights.
    seat: f64,
    /// Trunk lean half way down and when seated, radians.
    lean: f64,
    rest: f64,
    /// Some(T): play t as T - t.
    reversed_at: Option<f64>,
}

impl Sit {
    pub fn draw(reversed_at: Option<f64>, rng: &mut Rng) -> Self {
        Sit {
            start: rng.range(0.15, 0.7),
            duration: rng.range(1.1, 1.8),
            back: rng.range(0.18, 0.32),
            seat: rng.range(0.25, 0.30),
            lean: rng.range(28.0, 48.0).to_radians(),
            rest: rng.range(-5.0, 8.0).to_radians(),
            reversed_at,
        }
    }

    fn at(&self, t: f64, stance: &Stance) -> Pose {
        let t = self.reversed_at.map_or(t, |end| end - t);
        let s = minimum_jerk(t, self.start, self.duration);
        let u = ((t - self.start) / self.duration).clamp(0.0, 1.0);
        let lean = (PI * u).sin().powi(2) * self.lean + s * self.rest;
        let standing = stance.standing_hip();
        Pose {
            hip_x: -s * self.back,
            hip_z: standing + (self.seat * stance.height - standing) * s,
            lean,
            arms: relaxed_arms(lean),
        }
    }
}

/// Bending down to pick something up with the right hand, and rising again.
pub struct Bend {
    start: f64,
    /// Time of one of the two movements, s.
    duration: f64,
    pause: f64,
    lean: f64,
    back: f64,
    /// How far the hip sinks, in body heights.
    sink: f64,
    /// Right arm swing per trunk lean.
    reach: f64,
}

impl Bend {
    pub fn draw(rng: &mut Rng) -> Self {
        Bend {
            start: rng.range(0.15, 0.7),
            duration: 0.55 * rng.range(1.1, 1.8),
            pause: rng.range(0.1, 0.35),
            lean: rng.range(70.0, 105.0).to_radians(),
            back: rng.range(0.1, 0.2),
            sink: rng.range(0.05, 0.30),
            reach: rng.range(0.3, 0.9),
        }
    }

    fn at(&self, t: f64, stance: &Stance) -> Pose {
        let w = minimum_jerk(t, self.start, self.duration)
            - minimum_jerk(t, self.start + self.duration + self.pause, self.duration);
        let lean = w * self.lean;
        let arm = |share: f64| Arm { upper: share * lean, forearm: share * lean + 0.1 };
        Pose {
            hip_x: -w * self.back,
            hip_z: stance.standing_hip() - w * self.sink * stance.height,
            lean,
            arms: [arm(0.15), arm(self.reach)],
        }
    }
}

/// Waving with the right hand, or with both in mirrored sense.
pub struct Wave {
    /// Hz.
    rate: f64,
    /// Forearm swing, radians.
    swing: f64,
    phase: f64,
    /// Mean angle between upper arm and forearm, and of the upper arm.
    bend: f64,
    raise: f64,
    both: bool,
}

impl Wave {
    pub fn draw(rng: &mut Rng) -> Self {
        Wave {
            rate: rng.range(0.9, 2.4),
            swing: rng.range(22.0, 50.0).to_radians(),
            phase: rng.range(0.0, TAU),
            bend: 0.5 * rng.range(70.0, 150.0).to_radians(),
            raise: rng.range(20.0, 110.0).to_radians(),
            both: rng.uniform() < 0.3,
        }
    }

    fn at(&self, t: f64, stance: &Stance) -> Pose {
        // Phase of a rate that wanders by 6 % at 0.4 Hz: the integral of
        // rate (1 + 0.06 sin(2 pi 0.4 t + phase)).
        let wander = TAU * 0.4;
        let drift = 0.06 / wander * (self.phase.cos() - (wander * t + self.phase).cos());
        let arg = TAU * self.rate * (t + drift) + self.phase;
        let sin = arg.sin();
        let arm = |upper: f64, swing: f64| Arm { upper, forearm: upper + self.bend + swing };
        let right = arm(self.raise + 0.35 * self.swing * (arg + 0.6).sin(), self.swing * sin);
        let left = if self.both {
            arm(self.raise - 0.3 * self.swing * sin, -self.swing * sin)
        } else {
            Arm { upper: 0.05, forearm: 0.25 }
        };
        Pose { lean: 0.03 * sin, arms: [left, right], ..stance.upright_pose() }
    }
}

/// Punches alternating left and right: fast extension, slower return.
pub struct Boxing {
    /// Punches of one arm a second.
    rate: f64,
    phase: f64,
    reach: f64,
    /// Share of the cycle that sets the speed of a punch, left and right.
    duration: [f64; 2],
}

impl Boxing {
    pub fn draw(rng: &mut Rng) -> Self {
        Boxing {
            rate: rng.range(0.8, 1.6),
            reach: rng.range(0.75, 1.0),
            phase: rng.uniform(),
            duration: [rng.range(0.28, 0.4), rng.range(0.28, 0.4)],
        }
    }

    fn at(&self, t: f64, stance: &Stance) -> Pose {
        let arm = |side: usize| {
            let turns = self.rate * t + self.phase + [0.5, 0.0][side];
            let u = turns - turns.floor();
            let d = self.duration[side];
            let extension =
                self.reach * (minimum_jerk(u, 0.0, 0.5 * d) - minimum_jerk(u, 0.5 * d, 0.6 * d));
            let upper = (25.0 + 62.0 * extension).to_radians();
            Arm { upper, forearm: upper + (115.0 * (1.0 - extension)).to_radians() }
        };
        Pose {
            hip_x: 0.03 * (TAU * self.rate * t).sin(),
            hip_z: stance.standing_hip() - 0.02,
            lean: 8f64.to_radians() + 0.05 * (2.0 * TAU * self.rate * t).sin(),
            arms: [arm(0), arm(1)],
        }
    }
}
