//! The human preset: which scene each class draws, seen by a 24.125 GHz radar for 3 seconds.

use super::bicycle::Bicycle;
use super::bird::Bird;
use super::body::{Lengths, Motion};
use super::echo::{Placement, Scene};
use super::fall::Fall;
use super::gait::{Gait, Style};
use super::posture::{Action, Bend, Boxing, Posture, Sit, Stance, Wave};
use crate::rng::Rng;
use std::f64::consts::PI;

/// Carrier frequency, Hz.
pub const CARRIER: f64 = 24.125e9;
/// Pulse repetition frequency, Hz: +-6.36 m/s without ambiguity.
pub const RATE: f64 = 2048.0;
/// Samples the image covers, and those the last window needs beyond them: a complex signal
/// cannot be padded by reflection, which mirrors its Doppler.
pub const SPAN: usize = 6144;
pub const WINDOW: usize = 256;

pub const CLASSES: [&str; 11] = [
    "walk",
    "limp",
    "run",
    "sit_down",
    "stand_up",
    "fall",
    "bend_pick",
    "hand_wave",
    "boxing",
    "bicycle",
    "bird",
];
/// Classes drawn unless others are asked for: all but the bird.
pub const DEFAULT_CLASSES: usize = 10;

/// Draws the scene of a class (index into `CLASSES`).
pub fn draw(class: usize, rng: &mut Rng) -> Scene {
    let duration = (SPAN + WINDOW) as f64 / RATE;
    let height = (1.72 + 0.09 * rng.normal()).clamp(1.5, 1.95);
    let near = rng.range(4.0, 9.0);
    let radar_height = rng.range(0.9, 1.3);
    let approaching = rng.uniform() < 0.5;
    let heading = if approaching { PI } else { 0.0 } + rng.range(-0.45, 0.45);
    let lateral = rng.range(-0.8, 0.8);

    let name = CLASSES[class];
    let (motion, speed): (Box<dyn Motion>, f64) = match name {
        "walk" | "limp" | "run" => {
            let gait = draw_gait(name, height, rng);
            let speed = gait.speed();
            (Box::new(gait), speed)
        }
        "fall" => (Box::new(Fall::draw(height, RATE, SPAN + WINDOW, rng)), 0.0),
        "bicycle" => {
            let bicycle = Bicycle::draw(height, rng);
            let speed = bicycle.speed();
            (Box::new(bicycle), speed)
        }
        "bird" => {
            let bird = Bird::draw(rng);
            let speed = bird.speed();
            (Box::new(bird), speed)
        }
        _ => {
            let stance = Stance::new(height, rng);
            let action = match name {
                "sit_down" => Action::Sit(Sit::draw(None, rng)),
                "stand_up" => Action::Sit(Sit::draw(Some(duration), rng)),
                "bend_pick" => Action::Bend(Bend::draw(rng)),
                "hand_wave" => Action::Wave(Wave::draw(rng)),
                _ => Action::Box(Boxing::draw(rng)),
            };
            (Box::new(Posture { stance, action }), 0.0)
        }
    };
    let place = Placement {
        // Who approaches starts farther away by the path, and ends at `near`.
        range: near + if approaching { speed * duration } else { 0.0 },
        lateral,
        heading,
        // Birds are watched from near the ground.
        radar_height: if name == "bird" { 0.5 } else { radar_height },
    };
    Scene::new(motion, place, rng)
}

fn draw_gait(name: &str, height: f64, rng: &mut Rng) -> Gait {
    let (slowest, fastest) = match name {
        "walk" => (1.0, 1.9),
        "limp" => (0.6, 1.2),
        _ => (2.1, 2.6),
    };
    let v = rng.range(slowest, fastest);
    let arm = rng.range(0.8, 1.4);
    // A limp leaves 45 to 75 % off the left leg's angles.
    let limp = if name == "limp" { rng.range(0.45, 0.75) } else { 0.0 };
    Gait::new(Lengths::of(height), v, rng.uniform(), Style { arm, run: name == "run", limp })
}
