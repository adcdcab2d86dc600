//! The patch discriminator (PatchGAN: Isola et al. 2017, 1611.07004): a small convolutional network
//! that gives each patch of an image a logit, high for data and low for reconstructions. Group norm
//! takes the place of batch norm, which would tie the images of a batch, and of a lane, together.
//!
//! It learns by the hinge loss (Lim & Ye 2017, 1705.02894): mean max(0, 1 - D(x)) +
//! mean max(0, 1 + D(y)) of data x and reconstructions y, on a tape of its own; the generator's term
//! is -mean D(y), with D frozen. Its parameters are a group that is trained apart.

use super::Scope;
use super::layers::{conv, group_norm};
use super::losses::Term;
use crate::config::Adversarial;
use crate::error::{Error, Result};
use crate::ops::{self, Activation, Conv};
use crate::plan::ParamTable;
use crate::tape::{Act, Tape};

/// What the names of the parameters begin with, and their group: what
/// [`ParamTable::train_apart`] and [`Options::group`](crate::plan::Options::group) are given.
pub const GROUP: &str = "discriminator.";
/// Inputs of the discriminator's step: images and their reconstructions, [n, h, w, c].
pub const REAL: &str = "real";
pub const MADE: &str = "made";

const GROUPS: usize = 8;
const EPS: f32 = 1e-5;
/// Most channels, in widths.
const WIDEST: usize = 8;

/// x [n, h, w, c] -> logits [n, h', w', 1], with h' = floor(h / 2^layers) - 2. All convolutions are
/// 4 x 4 with padding 1; leaky ReLUs of slope 0.2.
///
/// # Errors
/// An image without room for a patch.
pub fn logits(s: &mut Scope<'_>, settings: &Adversarial, x: Act) -> Result<Act> {
    let &[_, h, w, _] = s.tape.shape(x).dims() else {
        return Err(Error::failed("the discriminator wants [n, h, w, c]"));
    };
    let least = 3 << settings.layers;
    if h.min(w) < least {
        return Err(Error::usage(format!("images of {h} x {w} hold no patch to judge"))
            .at("loss.adversarial.layers")
            .why(format!("{} layers need sides of {least} and more", settings.layers))
            .help("use fewer layers: each halves the image"));
    }
    let stride = |stride| Conv { stride, pad: [1; 4] };
    let channels = |layer: usize| settings.width * (1usize << layer).min(WIDEST);
    let mut y = conv(s.at("conv.0"), x, channels(0), 4, stride(2))?;
    y = ops::activation(s.tape, y, Activation::LeakyRelu)?;
    for layer in 1..=settings.layers {
        let step = if layer < settings.layers { 2 } else { 1 };
        y = conv(s.at(format!("conv.{layer}")), y, channels(layer), 4, stride(step))?;
        y = group_norm(s.at(format!("norm.{layer}")), y, GROUPS, EPS, false)?;
        y = ops::activation(s.tape, y, Activation::LeakyRelu)?;
    }
    conv(s.at("head"), y, 1, 4, stride(1))
}

/// The terms of the autoencoder's loss for its reconstruction `image`: "adversarial", the mean logit,
/// of weight -`weight`; none with a weight of 0. The discriminator is frozen: gradients pass through
/// it, and the plan leaves its parameters alone.
///
/// `s` is the scope of the whole table, as for [`record_step`].
pub fn generator_terms(s: &mut Scope<'_>, settings: &Adversarial, image: Act) -> Result<Vec<Term>> {
    if settings.weight == 0.0 {
        return Ok(vec![]);
    }
    let judged = logits(&mut scope(s).frozen(), settings, image)?;
    let value = ops::mean(s.tape, judged)?;
    Ok(vec![Term { name: "adversarial".into(), value, weight: -settings.weight as f32 }])
}

/// Records the discriminator's training step for images of `dims` = [n, h, w, c] on a tape of its own,
/// with the inputs [`REAL`] and [`MADE`]; reports "hinge_real" and "hinge_made", both 1 where it knows
/// nothing and 0 where it is sure. Its plan is compiled with the group [`GROUP`], in f32.
pub fn record_step(
    tape: &mut Tape,
    table: &mut ParamTable,
    settings: &Adversarial,
    dims: &[usize],
) -> Result<()> {
    let mut s = Scope::new(tape, table);
    let mut losses = vec![];
    for (input, report, sign) in [(REAL, "hinge_real", -1.0), (MADE, "hinge_made", 1.0)] {
        let x = s.tape.input(input, dims)?;
        let judged = logits(&mut scope(&mut s), settings, x)?;
        let loss = ops::hinge(s.tape, judged, sign)?;
        s.tape.report(report, loss)?;
        losses.push((loss, 1.0));
    }
    tape.backward(&losses)
}

fn scope<'a>(s: &'a mut Scope<'_>) -> Scope<'a> {
    s.train_apart(GROUP);
    s.at(GROUP.trim_end_matches('.'))
}
