//! A small convolutional classifier: recognises the class of a spectrogram, so that class-conditional
//! samples can be scored by something that never saw the generator.

use super::Scope;
use super::layers::{Init, conv, group_norm, linear};
use crate::error::Result;
use crate::ops::Conv;
use crate::tape::Act;

const CHANNELS: [usize; 3] = [16, 32, 64];
const GROUPS: usize = 8;
const EPS: f32 = 1e-5;

/// x [n, h, w, c] with h and w divisible by 8 -> logits [n, classes].
pub fn logits(s: &mut Scope<'_>, x: Act, classes: usize) -> Result<Act> {
    let mut h = x;
    for (i, c) in CHANNELS.into_iter().enumerate() {
        h = conv(s.at(format!("conv.{i}")), h, c, 3, Conv::half())?;
        h = group_norm(s.at(format!("norm.{i}")), h, GROUPS, EPS, true)?;
    }
    let shape = s.tape.shape(h);
    let n = shape.dims()[0];
    let h = s.tape.reshape(h, &[n, shape.elements() / n])?;
    linear(s.at("head"), h, classes, Init::FanIn)
}
