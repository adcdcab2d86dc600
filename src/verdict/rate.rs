//! Comparison at equal rate.
//!
//! A continuous latent has no fixed number of bits; its KL weight moves it along a curve of quality
//! against rate. The curve is sampled at several weights and read at the rate of the discrete arm,
//! by linear interpolation of PSNR in log2(bits): distortion in dB is nearly straight there.

use serde::{Deserialize, Serialize};

use super::arm::{Arm, Table};
use crate::error::Result;

/// Fewest KL weights of a curve.
pub const FEWEST: usize = 3;

/// The continuous arms at a rate, or why there is no such number.
#[derive(Debug, Clone, PartialEq)]
pub enum Matched {
    At(Bracket),
    /// Not judged: a plain sentence.
    Not(String),
}

/// Interpolated scores and where they come from.
#[derive(Debug, Clone, PartialEq)]
pub struct Bracket {
    pub psnr: Table,
    pub below: Neighbour,
    pub above: Neighbour,
}

/// An end of the bracket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Neighbour {
    pub name: String,
    /// Bits an image.
    pub rate: f64,
}

/// The PSNR of every (seed, image) that the continuous arms would have at `rate` bits an image. Arms
/// of rate 0 lie at no logarithm and are left out. An error if arms were scored on other images.
pub fn rate_matched(vaes: &[&Arm], rate: f64) -> Result<Matched> {
    let mut curve: Vec<&Arm> = vaes.iter().copied().filter(|arm| arm.rate > 0.0).collect();
    curve.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    if let Some(pair) = curve.windows(2).find(|pair| pair[0].rate == pair[1].rate) {
        return Ok(Matched::Not(format!(
            "{} and {} have the same rate of {:.1} bits an image",
            pair[0].name, pair[1].name, pair[0].rate
        )));
    }
    if curve.len() < FEWEST {
        return Ok(Matched::Not(format!(
            "{} KL weights with a rate above 0 bits; a curve needs at least {FEWEST}",
            curve.len()
        )));
    }
    let (lowest, highest) = (curve[0].rate, curve[curve.len() - 1].rate);
    if !(lowest <= rate && rate <= highest) {
        return Ok(Matched::Not(format!(
            "the KL weights span {lowest:.1} to {highest:.1} bits an image, which does not bracket \
             {rate:.1}"
        )));
    }
    let upper = curve.iter().position(|arm| arm.rate >= rate).unwrap_or(curve.len() - 1).max(1);
    let (below, above) = (curve[upper - 1], curve[upper]);
    let share = (rate.log2() - below.rate.log2()) / (above.rate.log2() - below.rate.log2());
    let neighbour = |arm: &Arm| Neighbour { name: arm.name.clone(), rate: arm.rate };
    Ok(Matched::At(Bracket {
        psnr: below.psnr.zip(&above.psnr, |a, b| a * (1.0 - share) + b * share)?,
        below: neighbour(below),
        above: neighbour(above),
    }))
}
