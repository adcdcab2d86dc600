//! The losses of images. Where a loss has a kink, targets keep it out of reach of the differences.

use super::{Graph, prove};
use vqforge::error::Result;
use vqforge::ops::{self, Penalty};
use vqforge::tape::Act;

/// As the leaves, but every number of size 1.2 to 2.1: above or below all of them.
fn far(g: &mut Graph, dims: &[usize]) -> Result<Act> {
    let data = (0..dims.iter().product())
        .map(|_| {
            let v = g.number();
            (v + 1.1 * v.signum()) as f32
        })
        .collect();
    g.tape.constant(dims, data)
}

const SHAPES: [[usize; 4]; 3] = [[1, 1, 1, 1], [2, 4, 6, 1], [1, 8, 4, 3]];

#[test]
fn pixels() {
    // Leaves are 0.1 to 1 in size, far targets 1.2 to 2.1. Between them differences are 0.2 to 3.1;
    // those of leaves and 0.3 leaves 0.07 to 1.3.
    for x in SHAPES {
        for weighted in [false, true] {
            let weight = |g: &mut Graph| match weighted {
                true => Ok::<_, vqforge::error::Error>(Some(g.constant(&x)?)),
                false => Ok(None),
            };
            prove("pixel_loss", &format!("squared {x:?} weighted={weighted}"), |g| {
                let (a, b, w) = (g.leaf(&x)?, g.leaf(&x)?, weight(g)?);
                Ok((vec![a, b], ops::pixel_loss(&mut g.tape, a, b, w, Penalty::Squared)?))
            });
            prove("pixel_loss", &format!("absolute {x:?} weighted={weighted}"), |g| {
                let (a, b, w) = (g.leaf(&x)?, far(g, &x)?, weight(g)?);
                Ok((vec![a], ops::pixel_loss(&mut g.tape, b, a, w, Penalty::Absolute)?))
            });
            prove("pixel_loss", &format!("smooth, absolute part {x:?} weighted={weighted}"), |g| {
                let (a, b, w) = (g.leaf(&x)?, far(g, &x)?, weight(g)?);
                let penalty = Penalty::Smooth { beta: 0.05 };
                Ok((vec![a], ops::pixel_loss(&mut g.tape, a, b, w, penalty)?))
            });
            prove("pixel_loss", &format!("smooth, squared part {x:?} weighted={weighted}"), |g| {
                let (a, b, w) = (g.leaf(&x)?, g.leaf(&x)?, weight(g)?);
                let penalty = Penalty::Smooth { beta: 2.5 };
                Ok((vec![a, b], ops::pixel_loss(&mut g.tape, a, b, w, penalty)?))
            });
        }
    }
}

#[test]
fn log_spectral_distance() {
    for x in SHAPES {
        prove("log_spectral_distance", &format!("{x:?}"), |g| {
            let (a, b) = (g.leaf(&x)?, far(g, &x)?);
            Ok((vec![a], ops::log_spectral_distance(&mut g.tape, a, b, 20.0, 0.01)?))
        });
        prove("log_spectral_distance", &format!("{x:?} of leaves"), |g| {
            let (a, b) = (g.leaf(&x)?, g.leaf(&x)?);
            // Frames that are nearly equal need a smoother root.
            Ok((vec![a, b], ops::log_spectral_distance(&mut g.tape, b, a, 1.0, 0.5)?))
        });
    }
}

#[test]
fn power_pool() {
    for (x, r) in [([1, 1, 1, 1], 1), ([2, 4, 6, 1], 2), ([1, 8, 4, 3], 4), ([2, 3, 3, 2], 1)] {
        prove("power_pool", &format!("{x:?} {r}"), |g| {
            let x = g.leaf(&x)?;
            Ok((vec![x], ops::power_pool(&mut g.tape, x, r, 10.0)?))
        });
    }
}

#[test]
fn spectral_distance() {
    for (x, r) in [([1, 2, 2, 1], 1), ([2, 4, 6, 1], 2), ([3, 4, 4, 2], 4)] {
        prove("power_pool", &format!("then spectral_distance {x:?} {r}"), |g| {
            let image = g.leaf(&x)?;
            let target = far(g, &[x[0], x[1] / r, x[2] / r, x[3]])?;
            let made = ops::power_pool(&mut g.tape, image, r, 10.0)?;
            let target = ops::power_pool(&mut g.tape, target, 1, 10.0)?;
            let distance = ops::spectral_distance(&mut g.tape, made, target, 0.01)?;
            Ok((vec![image], distance))
        });
    }
}

/// The magnitudes serve twice: the gradient is added to.
#[test]
fn spectral_distance_adds() {
    prove("spectral_distance", "of magnitudes that serve twice", |g| {
        let y = g.leaf(&[2, 5])?;
        // Above 0: SiLU of a leaf is at least -0.28.
        let lifted = ops::activation(&mut g.tape, y, ops::Activation::Silu)?;
        let shift = g.tape.constant(&[2, 5], vec![2.0; 10])?;
        let y = ops::add(&mut g.tape, lifted, shift)?;
        let t = g.tape.constant(&[2, 5], vec![0.5, 4.0, 0.6, 5.0, 0.7, 3.5, 0.4, 4.5, 0.3, 6.0])?;
        let first = ops::spectral_distance(&mut g.tape, y, t, 0.01)?;
        let second = ops::spectral_distance(&mut g.tape, y, t, 0.04)?;
        let both = ops::add(&mut g.tape, first, second)?;
        Ok((vec![lifted], both))
    });
}

#[test]
fn mean() {
    for x in [vec![1], vec![5, 3], vec![2, 41]] {
        prove("mean", &format!("{x:?}"), |g| {
            let x = g.leaf(&x)?;
            Ok((vec![x], ops::mean(&mut g.tape, x)?))
        });
    }
}

/// Margins of 0.5 to 2.5 and, in every second place, of -2.5 to -0.5.
#[test]
fn hinge() {
    for sign in [-1.0, 1.0] {
        prove("hinge", &format!("sign={sign}"), |g| {
            let x = g.leaf(&[3, 7])?;
            let by = (0..21).map(|i| if i % 2 == 0 { 0.5 * sign } else { -2.5 * sign }).collect();
            let by = g.tape.constant(&[3, 7], by)?;
            let shifted = ops::add(&mut g.tape, x, by)?;
            Ok((vec![shifted], ops::hinge(&mut g.tape, shifted, sign)?))
        });
    }
}
