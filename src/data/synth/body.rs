//! The articulated body: joint positions, and the ellipsoids hung between them.
//!
//! Coordinates are the body's own: x forward, y to its left, z up, metres. Limbs move in
//! vertical planes, so each is a chain of angles about y.

use std::ops::{Add, Mul, Sub};

#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Vec3 {
    pub x: f64,
    pub y: f64,
    pub z: f64,
}

pub fn vec3(x: f64, y: f64, z: f64) -> Vec3 {
    Vec3 { x, y, z }
}

impl Vec3 {
    pub fn dot(self, o: Vec3) -> f64 {
        self.x * o.x + self.y * o.y + self.z * o.z
    }
    /// Unit vector along `self`; the small term keeps a vanishing segment finite.
    pub fn unit(self) -> Vec3 {
        self * (1.0 / (self.dot(self).sqrt() + 1e-9))
    }
    pub fn lerp(self, to: Vec3, share: f64) -> Vec3 {
        self * (1.0 - share) + to * share
    }
}

impl Add for Vec3 {
    type Output = Vec3;
    fn add(self, o: Vec3) -> Vec3 {
        vec3(self.x + o.x, self.y + o.y, self.z + o.z)
    }
}

impl Sub for Vec3 {
    type Output = Vec3;
    fn sub(self, o: Vec3) -> Vec3 {
        vec3(self.x - o.x, self.y - o.y, self.z - o.z)
    }
}

impl Mul<f64> for Vec3 {
    type Output = Vec3;
    fn mul(self, k: f64) -> Vec3 {
        vec3(self.x * k, self.y * k, self.z * k)
    }
}

/// Vector of length `l` hanging down, swung forward by `angle` radians.
pub fn hanging(l: f64, angle: f64) -> Vec3 {
    let (sin, cos) = angle.sin_cos();
    vec3(l * sin, 0.0, -l * cos)
}

/// Unit vector pointing up, leaned forward by `angle` radians.
pub fn upright(angle: f64) -> Vec3 {
    let (sin, cos) = angle.sin_cos();
    vec3(sin, 0.0, cos)
}

/// Spheroid with semi-axes (a, a, c), c along the unit vector `axis`.
#[derive(Debug, Clone, Copy)]
pub struct Ellipsoid {
    pub centre: Vec3,
    pub axis: Vec3,
    pub a: f64,
    pub c: f64,
}

impl Ellipsoid {
    /// `axis` may have any length.
    pub fn new(centre: Vec3, axis: Vec3, a: f64, c: f64) -> Self {
        Ellipsoid { centre, axis: axis.unit(), a, c }
    }

    /// Square root of the radar cross-section seen along the unit vector `sight`:
    /// sigma = pi a^4 c^2 / (a^2 sin^2 + c^2 cos^2)^2, angles from the long axis.
    pub fn root_cross_section(&self, sight: Vec3) -> f64 {
        let cos = sight.dot(self.axis);
        let cos2 = cos * cos;
        let (a2, c2) = (self.a * self.a, self.c * self.c);
        // sqrt(pi)
        1.772_453_850_905_516 * a2 * self.c / (a2 * (1.0 - cos2) + c2 * cos2 + 1e-12)
    }
}

/// A moving body. `pose` appends the same number of ellipsoids in the same order at every t.
pub trait Motion: Send + Sync {
    /// `t` in seconds; defined for all t, also slightly before 0.
    fn pose(&self, t: f64, out: &mut Vec<Ellipsoid>);
}

/// Segment lengths in metres: fixed shares of body height. The foot is the effective part of it
/// that reflects; `shoulder` and `hip` are half widths.
#[derive(Debug, Clone, Copy)]
pub struct Lengths {
    pub head: f64,
    pub shoulder: f64,
    pub torso: f64,
    pub hip: f64,
    pub thigh: f64,
    pub shank: f64,
    pub foot: f64,
    pub upper_arm: f64,
    pub forearm: f64,
}

impl Lengths {
    pub fn of(height: f64) -> Self {
        Lengths {
            head: 0.130 * height,
            shoulder: 0.1295 * height,
            torso: 0.288 * height,
            hip: 0.0955 * height,
            thigh: 0.245 * height,
            shank: 0.246 * height,
            foot: 0.143 * 0.6 * height,
            upper_arm: 0.188 * height,
            forearm: (0.152 + 0.06) * height,
        }
    }
    /// Hip height of the stretched leg, the unit of length of the gait model.
    pub fn leg(&self) -> f64 {
        self.thigh + self.shank
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Limbs {
    pub hip: Vec3,
    pub knee: Vec3,
    pub ankle: Vec3,
    pub toe: Vec3,
    pub shoulder: Vec3,
    pub elbow: Vec3,
    pub hand: Vec3,
}

/// +1 for the left side (positive y), -1 for the right: the order of `Joints::sides`.
pub const SIDES: [f64; 2] = [1.0, -1.0];

#[derive(Debug, Clone, Copy, Default)]
pub struct Joints {
    pub base: Vec3,
    pub neck: Vec3,
    pub head: Vec3,
    /// Left, right.
    pub sides: [Limbs; 2],
}

impl Joints {
    /// Applies `f` to every joint.
    pub fn map(&self, f: impl Fn(Vec3) -> Vec3) -> Joints {
        let side = |s: &Limbs| Limbs {
            hip: f(s.hip),
            knee: f(s.knee),
            ankle: f(s.ankle),
            toe: f(s.toe),
            shoulder: f(s.shoulder),
            elbow: f(s.elbow),
            hand: f(s.hand),
        };
        Joints {
            base: f(self.base),
            neck: f(self.neck),
            head: f(self.head),
            sides: [side(&self.sides[0]), side(&self.sides[1])],
        }
    }

    /// Mixes two postures joint by joint: `share` 0 is `self`, 1 is `to`.
    pub fn blend(&self, to: &Joints, share: f64) -> Joints {
        let side = |a: &Limbs, b: &Limbs| Limbs {
            hip: a.hip.lerp(b.hip, share),
            knee: a.knee.lerp(b.knee, share),
            ankle: a.ankle.lerp(b.ankle, share),
            toe: a.toe.lerp(b.toe, share),
            shoulder: a.shoulder.lerp(b.shoulder, share),
            elbow: a.elbow.lerp(b.elbow, share),
            hand: a.hand.lerp(b.hand, share),
        };
        Joints {
            base: self.base.lerp(to.base, share),
            neck: self.neck.lerp(to.neck, share),
            head: self.head.lerp(to.head, share),
            sides: [side(&self.sides[0], &to.sides[0]), side(&self.sides[1], &to.sides[1])],
        }
    }

    /// The 16 reflecting ellipsoids: head, torso, and 7 per side.
    pub fn ellipsoids(&self, l: &Lengths, out: &mut Vec<Ellipsoid>) {
        let between = |p: Vec3, q: Vec3, a, length: f64| {
            Ellipsoid::new(p.lerp(q, 0.5), p - q, a, length / 2.0)
        };
        out.push(Ellipsoid::new(self.head, self.head - self.neck, 0.10, l.head / 2.0));
        out.push(between(self.neck, self.base, 0.15, l.torso));
        for s in &self.sides {
            out.push(between(s.shoulder, self.neck, 0.06, l.shoulder));
            out.push(between(s.shoulder, s.elbow, 0.06, l.upper_arm));
            // The hand reflects too: the centre lies 65 % of the way towards it.
            let forearm = s.elbow.lerp(s.hand, 0.65);
            out.push(Ellipsoid::new(forearm, s.elbow - s.hand, 0.05, l.forearm / 2.0));
            out.push(between(s.hip, self.base, 0.07, l.hip));
            out.push(between(s.hip, s.knee, 0.07, l.thigh));
            out.push(between(s.knee, s.ankle, 0.06, l.shank));
            out.push(between(s.toe, s.ankle, 0.05, l.foot));
        }
    }
}

/// Knee of a leg whose hip and ankle are given: two-link inverse kinematics in the x-z plane,
/// knee forward, by the law of cosines. A distance out of reach stretches the leg.
pub fn knee(hip: Vec3, ankle: Vec3, l: &Lengths) -> Vec3 {
    let (dx, dz) = (ankle.x - hip.x, ankle.z - hip.z);
    let d = (dx * dx + dz * dz).sqrt().clamp(1e-3, l.leg() * 0.9999);
    let cos = (l.thigh * l.thigh + d * d - l.shank * l.shank) / (2.0 * l.thigh * d);
    hip + hanging(l.thigh, dx.atan2(-dz) + cos.clamp(-1.0, 1.0).acos())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::PI;

    /// Limits of the formula: sigma = pi c^2 across the long axis, pi a^4/c^2 along it.
    #[test]
    fn cross_section_of_an_ellipsoid() {
        let (a, c) = (0.07, 0.21);
        let thigh = Ellipsoid::new(vec3(0.0, 0.0, 0.0), vec3(0.0, 0.0, 3.0), a, c);
        let sigma = |sight: Vec3| thigh.root_cross_section(sight).powi(2);
        // The terms against division by zero (1e-9 of the axis, 1e-12 m^2) leave 1e-9.
        assert!((sigma(vec3(1.0, 0.0, 0.0)) / (PI * c * c) - 1.0).abs() < 1e-8);
        assert!((sigma(vec3(0.0, 0.0, -1.0)) / (PI * a.powi(4) / (c * c)) - 1.0).abs() < 1e-8);
    }

    /// `ik` of the numpy prototype of the simulator, and the links it must keep.
    #[test]
    fn knee_keeps_both_links() {
        let mut l = Lengths::of(1.7);
        (l.thigh, l.shank) = (0.42, 0.41);
        let (hip, ankle) = (vec3(-0.1, 0.2, 0.7), vec3(0.05, 0.2, 0.07));
        let knee = knee(hip, ankle, &l);
        let wanted = vec3(0.228962497132, 0.2, 0.438879959635);
        let off = knee - wanted;
        assert!(off.dot(off).sqrt() < 1e-11, "{knee:?}");
        let shank = knee - ankle;
        assert!((shank.dot(shank).sqrt() - l.shank).abs() < 1e-12);
    }
}
