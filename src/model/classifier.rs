//! A small convolutional classifier: recognises the class of a spectrogram, so that class-conditional
//! samples can be scored by something that never saw the generator. Its hidden layers are features to
//! compare images by.

use super::Scope;
use super::layers::{Init, conv, group_norm, linear};
use crate::error::Result;
use crate::ops::Conv;
use crate::tape::Act;

/// Levels of features.
pub const LEVELS: usize = 3;
const CHANNELS: [usize; LEVELS] = [16, 32, 64];
const GROUPS: usize = 8;
const EPS: f32 = 1e-5;

/// x [n, h, w, c] -> the features of each level, each of half the sides of the one before.
pub fn features(s: &mut Scope<'_>, x: Act) -> Result<[Act; LEVELS]> {
    let mut h = x;
    let mut levels = [x; LEVELS];
    for (i, level) in levels.iter_mut().enumerate() {
        h = conv(s.at(format!("conv.{i}")), h, CHANNELS[i], 3, Conv::half())?;
        h = group_norm(s.at(format!("norm.{i}")), h, GROUPS, EPS, true)?;
        *level = h;
    }
    Ok(levels)
}

/// x [n, h, w, c] -> logits [n, classes].
pub fn logits(s: &mut Scope<'_>, x: Act, classes: usize) -> Result<Act> {
    let [.., h] = features(s, x)?;
    let shape = s.tape.shape(h);
    let n = shape.dims()[0];
    let h = s.tape.reshape(h, &[n, shape.elements() / n])?;
    linear(s.at("head"), h, classes, Init::FanIn)
}
