//! The rotor preset: drones, helicopters and propellers under a 10 GHz radar for 128 ms.
//!
//! A blade is a line of scatterers from hub to tip; integrated along it, the return of blade b is
//! L sinc(A_b) exp(-j [k (v t + dR) + A_b]), with A_b = (k L / 2) cos(elevation)
//! cos(2 pi f t + phase + 2 pi b / N_b), k = 4 pi / lambda and sinc x = sin x / x. It flashes when
//! the blade is across the line of sight: N_b f times a second for even N_b, 2 N_b f for odd.

use super::phasor::{unit_phasor, wrap};
use crate::rng::Rng;
use rustfft::num_complex::Complex;
use std::f64::consts::TAU;

/// Carrier frequency, Hz.
pub const CARRIER: f64 = 10e9;
/// Pulse repetition frequency, Hz: +-240 m/s without ambiguity.
pub const RATE: f64 = 32_000.0;
/// Samples the image covers.
pub const SPAN: usize = 4096;

pub const CLASSES: [&str; 5] =
    ["quadrotor", "hexarotor", "helicopter2", "helicopter4", "propeller"];

/// Samples worked on together.
const BLOCK: usize = 8;

#[derive(Debug, Clone)]
pub struct Craft {
    /// Radial speed away from the radar, m/s.
    pub velocity: f64,
    /// Return of the fuselage: amplitude, and phase in turns.
    pub body: f64,
    pub body_turns: f64,
    pub rotors: Vec<Rotor>,
}

#[derive(Debug, Clone)]
pub struct Rotor {
    pub blades: usize,
    /// Blade length, m.
    pub length: f64,
    /// Revolutions a second.
    pub rate: f64,
    /// Of blade 0 at t = 0, turns.
    pub phase: f64,
    /// Return per metre of blade.
    pub gain: f64,
    /// Cosine of the angle between line of sight and rotor plane.
    pub cos_elevation: f64,
    /// Hub range minus fuselage range, m.
    pub offset: f64,
}

/// Draws the craft of a class (index into `CLASSES`).
pub fn draw(class: usize, rng: &mut Rng) -> Craft {
    let cos_elevation = rng.range(3.0, 35.0).to_radians().cos();
    let velocity = rng.range(-12.0, 12.0);
    let body_turns = rng.uniform();
    // Tip speed, m/s, to revolutions a second.
    let rate = |tip: f64, length: f64| tip / (TAU * length);
    let (body, rotors) = match CLASSES[class] {
        name @ ("quadrotor" | "hexarotor") => {
            let (count, length) = match name {
                "quadrotor" => (4, rng.range(0.11, 0.16)),
                _ => (6, rng.range(0.17, 0.24)),
            };
            let nominal = rate(rng.range(55.0, 95.0), length);
            let arm = length * rng.range(1.6, 2.2);
            let body = rng.range(0.15, 0.5) * length * count as f64;
            let rotors = (0..count).map(|m| Rotor {
                blades: 2,
                length,
                // Each motor trims its own speed.
                rate: nominal * (1.0 + 0.05 * rng.normal()),
                phase: rng.uniform(),
                gain: 1.0,
                cos_elevation,
                offset: arm * cos_elevation * (TAU * m as f64 / count as f64).cos(),
            });
            (body, rotors.collect())
        }
        name @ ("helicopter2" | "helicopter4") => {
            let (blades, length) = match name {
                "helicopter2" => (2, rng.range(3.6, 5.5)),
                _ => (4, rng.range(5.5, 7.5)),
            };
            let rate = rate(rng.range(190.0, 215.0), length);
            let body = rng.range(0.05, 0.25) * length;
            let main = Rotor {
                blades,
                length,
                rate,
                phase: rng.uniform(),
                gain: 1.0,
                cos_elevation,
                offset: 0.0,
            };
            let tail = Rotor {
                blades: 2,
                length: 0.17 * length,
                rate: 5.2 * rate,
                phase: rng.uniform(),
                gain: 0.5,
                ..main
            };
            (body, vec![main, tail])
        }
        _ => {
            let blades = 2 + rng.below(2) as usize;
            let cos_elevation = rng.range(35.0, 70.0).to_radians().cos();
            let length = rng.range(0.4, 0.9);
            let rate = rate(rng.range(110.0, 190.0), length);
            let body = rng.range(0.3, 1.0) * length;
            let phase = rng.uniform();
            let rotor =
                Rotor { blades, length, rate, phase, gain: 1.0, cos_elevation, offset: 0.0 };
            (body, vec![rotor])
        }
    };
    Craft { velocity, body, body_turns, rotors }
}

impl Craft {
    /// The first `samples` complex samples at `rate` Hz, replacing the contents of `out`.
    pub fn echo(&self, wavelength: f64, rate: f64, samples: usize, out: &mut Vec<Complex<f32>>) {
        let blocks = samples.div_ceil(BLOCK);
        out.clear();
        out.resize(blocks * BLOCK, phasor(-self.body_turns, self.body));
        for rotor in &self.rotors {
            rotor.add_echo(wavelength, rate, out);
        }
        // The motion of the whole craft.
        let turns_per_sample = -2.0 * self.velocity / (wavelength * rate);
        for (n, z) in out.iter_mut().enumerate() {
            let (re, im) = unit_phasor(wrap(turns_per_sample * n as f64) as f32);
            *z *= Complex { re, im };
        }
        out.truncate(samples);
    }
}

impl Rotor {
    /// Adds the blades to `out`, whose length is a multiple of `BLOCK`.
    fn add_echo(&self, wavelength: f64, rate: f64, out: &mut [Complex<f32>]) {
        let hub = phasor(-2.0 * self.offset / wavelength, self.gain * self.length);
        // k L / 2 cos(elevation), in turns.
        let reach = self.length * self.cos_elevation / wavelength;
        let turn = |turns: f64| Complex::from_polar(1.0, TAU * turns);
        let within: [Complex<f64>; BLOCK] =
            std::array::from_fn(|i| turn(self.rate * i as f64 / rate));
        let step = turn(self.rate * BLOCK as f64 / rate);
        for b in 0..self.blades {
            // Blade direction at the block's first sample, advanced by rotation: in f64 a few
            // hundred products drift by 1e-13.
            let mut direction = turn(self.phase + b as f64 / self.blades as f64);
            for block in out.as_chunks_mut::<BLOCK>().0 {
                for (z, offset) in block.iter_mut().zip(&within) {
                    let a = reach * (direction.re * offset.re - direction.im * offset.im);
                    *z += hub * blade(a);
                }
                direction *= step;
            }
        }
    }
}

/// sinc(A) exp(-j A) for A = 2 pi `turns`.
#[inline(always)]
fn blade(turns: f64) -> Complex<f32> {
    let (cos, sin) = unit_phasor(wrap(turns) as f32);
    let a = (TAU * turns) as f32;
    let a2 = a * a;
    // Near 0 the quotient would magnify the phasor's rounding; there the series
    // 1 - A^2/6 + A^4/120 errs by less than 0.1^6/5040 = 2e-10.
    let series = 1.0 - a2 * (1.0 / 6.0 - a2 * (1.0 / 120.0));
    let sinc = if a2 < 0.01 { series } else { sin / a };
    Complex { re: sinc * cos, im: -sinc * sin }
}

fn phasor(turns: f64, amplitude: f64) -> Complex<f32> {
    let (cos, sin) = unit_phasor(wrap(turns) as f32);
    Complex { re: amplitude as f32 * cos, im: amplitude as f32 * sin }
}

#[cfg(test)]
impl Craft {
    /// The formula at the head of this file in f64: the oracle of `echo`.
    pub fn echo_by_definition(
        &self,
        wavelength: f64,
        rate: f64,
        samples: usize,
    ) -> Vec<Complex<f64>> {
        let k = 2.0 * TAU / wavelength;
        let one = |t: f64| {
            let mut z =
                Complex::from_polar(self.body, -k * self.velocity * t - TAU * self.body_turns);
            for r in &self.rotors {
                for b in 0..r.blades {
                    let angle = TAU * (r.rate * t + r.phase + b as f64 / r.blades as f64);
                    let a = k * r.length / 2.0 * r.cos_elevation * angle.cos();
                    let sinc = if a == 0.0 { 1.0 } else { a.sin() / a };
                    z += Complex::from_polar(1.0, -k * (self.velocity * t + r.offset) - a)
                        * (r.gain * r.length * sinc);
                }
            }
            z
        };
        (0..samples).map(|n| one(n as f64 / rate)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Preset;
    use super::*;

    /// N_b f flashes a second for an even number of blades, 2 N_b f for an odd one.
    #[test]
    fn blades_flash_across_the_line_of_sight() {
        let samples = 4000; // 1/8 s: five revolutions at 40 Hz
        for (blades, flashes) in [(2, 10), (3, 30), (4, 20)] {
            let rotor = Rotor {
                blades,
                length: 0.8,
                rate: 40.0,
                phase: 0.01,
                gain: 1.0,
                cos_elevation: 1.0,
                offset: 0.3,
            };
            let craft = Craft { velocity: 3.0, body: 0.0, body_turns: 0.0, rotors: vec![rotor] };
            let mut echo = Vec::new();
            craft.echo(Preset::Rotor.wavelength(), RATE, samples, &mut echo);
            // Away from a flash a blade returns less than 2/(k L) = 0.6 % of its length.
            let bright: Vec<bool> = echo.iter().map(|z| z.norm() > 0.4).collect();
            let counted = bright.windows(2).filter(|w| !w[0] && w[1]).count();
            assert_eq!(counted, flashes, "{blades} blades");
        }
    }

    /// A phasor errs by 1e-6 of its amplitude; with every blade of a hexarotor (12 L) at its worst
    /// against the weakest body (0.15 * 6 L) that makes 1.4e-5 of the signal, -97 dB.
    #[test]
    fn echo_matches_its_definition() {
        let wavelength = Preset::Rotor.wavelength();
        for (class, name) in CLASSES.iter().enumerate() {
            let craft = draw(class, &mut Rng::new(3, crate::rng::Stream::Test, class as u64));
            let mut echo = Vec::new();
            craft.echo(wavelength, RATE, 4101, &mut echo);
            assert_eq!(echo.len(), 4101);
            let exact = craft.echo_by_definition(wavelength, RATE, 4101);
            let db = super::super::tests::error_db(&echo, &exact);
            assert!(db < -97.0, "{name}: {db:.1} dB");
        }
    }
}
