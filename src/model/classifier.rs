//! A small convolutional classifier: recognises the class of a spectrogram, so that class-conditional
//! samples can be scored by something that never saw the generator. Its hidden layers are features to
//! compare images by.

use super::Scope;
use super::layers::{Init, conv, group_norm, linear};
use crate::error::Result;
use crate::ops::{self, Conv};
use crate::tape::Act;

/// Inputs of a recorded pass: images [n, h, w, c] in [-1, 1] and, of a step, their classes [n].
pub const IMAGES: &str = "images";
pub const TARGET: &str = "target";
/// Outputs: [n, classes], and the features of the last level [n, h', w', c'].
pub const LOGITS: &str = "logits";
pub const FEATURES: &str = "features";

/// Levels of features.
pub const LEVELS: usize = 3;
/// Smaller images have nothing left at the last level.
pub const LEAST_SIDE: usize = 1 << LEVELS;
/// Channels of each level.
pub const CHANNELS: [usize; LEVELS] = [16, 32, 64];
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
    head(s, h, classes)
}

fn head(s: &mut Scope<'_>, h: Act, classes: usize) -> Result<Act> {
    let shape = s.tape.shape(h);
    let n = shape.dims()[0];
    let h = s.tape.reshape(h, &[n, shape.elements() / n])?;
    linear(s.at("head"), h, classes, Init::FanIn)
}

/// Records the training step for images of `dims` = [n, h, w, c] with the inputs [`IMAGES`] and
/// [`TARGET`] and the output [`LOGITS`]; reports "cross_entropy" in nats an image. The parameters are
/// those of the scope.
pub fn record_step(s: &mut Scope<'_>, dims: &[usize], classes: usize) -> Result<()> {
    let n = dims[0];
    let x = s.tape.input(IMAGES, dims)?;
    let target = s.tape.input_idx(TARGET, &[n])?;
    let weight = s.tape.constant(&[n], vec![1.0; n])?;
    let logits = logits(s, x, classes)?;
    s.tape.output(LOGITS, logits)?;
    let (loss, _) = ops::cross_entropy(s.tape, logits, target, weight, 1.0 / n as f32)?;
    s.tape.report("cross_entropy", loss)?;
    s.tape.backward(&[(loss, 1.0)])
}

/// Records what is asked of a trained classifier: the input [`IMAGES`], the outputs [`LOGITS`] and
/// [`FEATURES`].
pub fn record_recognition(s: &mut Scope<'_>, dims: &[usize], classes: usize) -> Result<()> {
    let x = s.tape.input(IMAGES, dims)?;
    let [.., last] = features(s, x)?;
    let logits = head(s, last, classes)?;
    s.tape.output(FEATURES, last)?;
    s.tape.output(LOGITS, logits)
}
