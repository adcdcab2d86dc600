//! The denoiser of Gaussian diffusion: the transformer of the discrete one, over latents instead of tokens.
//!
//! Every place of the latent grid is a token: x = linear(latent) + row + column embedding, the same blocks,
//! a linear layer back to the channels. The condition of the adaptive norms is MLP(features of the time) +
//! class embedding (index `classes` is the learnable null class).

use super::{embed, placed, transform};
use crate::config::Denoiser;
use crate::error::Result;
use crate::model::Scope;
use crate::model::layers::{Init, linear, mlp};
use crate::ops::{self, Activation};
use crate::tape::{Act, Idx};

/// Sizes that the data and the tokenizer fix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LatentGrid {
    pub rows: usize,
    pub cols: usize,
    /// Of the latent of a place.
    pub channels: usize,
    /// Class `classes` is the null class.
    pub classes: usize,
}

impl LatentGrid {
    pub fn places(&self) -> usize {
        self.rows * self.cols
    }

    /// Numbers of a sample.
    pub fn length(&self) -> usize {
        self.places() * self.channels
    }
}

/// Numbers that tell the network the time.
pub const TIME_FEATURES: usize = 64;
/// The fastest feature turns this many times slower than a thousandth of the time does once.
const SLOWEST: f64 = 1e4;

/// Cosines and sines of 1000 t w, w falling geometrically from 1 to 1 / 10,000 (the sinusoidal embedding of
/// 1706.03762, as diffusion models use it for a thousand steps).
pub fn time_features(t: f64) -> [f32; TIME_FEATURES] {
    const HALF: usize = TIME_FEATURES / 2;
    std::array::from_fn(|i| {
        let angle = 1000.0 * t * SLOWEST.powf(-((i % HALF) as f64) / (HALF - 1) as f64);
        (if i < HALF { angle.cos() } else { angle.sin() }) as f32
    })
}

/// x [batch * places, channels], time [batch, [`TIME_FEATURES`]], class [batch] in 0..=classes -> velocities
/// [batch, places, channels].
pub fn velocity(
    s: &mut Scope<'_>,
    config: &Denoiser,
    grid: LatentGrid,
    x: Act,
    time: Act,
    class: Idx,
) -> Result<Act> {
    let (width, batch) = (config.width, s.tape.shape(class).elements());
    let x = linear(s.at("latent_emb"), x, width, Init::FanIn)?;
    let mut x = s.tape.reshape(x, &[batch, grid.places(), width])?;
    let size = [grid.rows, grid.cols];
    if placed(config) {
        x = embed::place(s.at(""), size, x)?;
    }
    let time = linear(s.at("time_emb"), time, width, Init::Transformer)?;
    let time = mlp(s.at("time_mlp"), time, width, Activation::Silu)?;
    let classes = embed::table(s, "class_emb", grid.classes + 1, width)?;
    let class = ops::embedding(s.tape, class, classes)?;
    let condition = ops::add(s.tape, time, class)?;
    let x = transform(s, config, size, x, condition, None)?;
    linear(s.at("out"), x, grid.channels, Init::Transformer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times that a run tells apart are told apart: neighbours of 4,000 by more than f32 rounds, for the
    /// fastest pair of features alone turns by a quarter of a radian.
    #[test]
    fn features_tell_times_apart() {
        let at = |i: usize| time_features(i as f64 / 4000.0);
        assert_eq!(at(0)[..2], [1.0, 1.0]);
        assert_eq!(at(0)[TIME_FEATURES / 2..], [0.0; TIME_FEATURES / 2]);
        for i in 0..4000 {
            let far: f32 = at(i).iter().zip(at(i + 1)).map(|(a, b)| (a - b).powi(2)).sum();
            // The chord of a quarter of a radian.
            assert!(far.sqrt() > 2.0 * 0.125f32.sin(), "{i}: {far}");
        }
    }
}
