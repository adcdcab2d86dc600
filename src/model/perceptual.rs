//! A distance between images on features that the run trains itself: that of LPIPS (Zhang et al. 2018,
//! 1801.03924) without its learned weights, on the small classifier in place of a network trained on
//! photographs.
//!
//! The classifier learns on a tape of its own before the run's first step and is frozen from then on.
//! Its parameters are a group that is trained apart.

use super::losses::Term;
use super::{Scope, classifier};
use crate::error::{Error, Result};
use crate::ops;
use crate::plan::ParamTable;
use crate::tape::{Act, Tape};

/// What the names of the parameters begin with, and their group.
pub const GROUP: &str = "features.";

/// Terms "perceptual_0" to "perceptual_2", one for each level of the features, for the image made of
/// x; both [n, h, w, c]. Each is the mean of (f^(image) - f^(x))^2 with f^ = f / |f| along the channels;
/// its weight is `weight` / 3 times the number of channels, so that all together are `weight` times the
/// mean over levels of the mean over places of |f^(image) - f^(x)|^2. None with a weight of 0.
///
/// `s` is the scope of the whole table, as for [`record_step`].
///
/// # Errors
/// Images of a side below 8.
pub fn terms(s: &mut Scope<'_>, weight: f64, image: Act, x: Act) -> Result<Vec<Term>> {
    if weight == 0.0 {
        return Ok(vec![]);
    }
    let made = features(s, image)?;
    let wanted = features(s, x)?;
    let share = weight / made.len() as f64;
    let pairs = made.into_iter().zip(wanted).enumerate();
    let term = |(level, (made, wanted)): (usize, (Act, Act))| {
        let channels = s.tape.shape(made).channels() as f64;
        let made = ops::normalise_rows(s.tape, made)?;
        let wanted = ops::normalise_rows(s.tape, wanted)?;
        let value = ops::mse(s.tape, made, wanted)?;
        Ok(Term::new(format!("perceptual_{level}"), value, (share * channels) as f32))
    };
    pairs.map(term).collect()
}

fn features(s: &mut Scope<'_>, x: Act) -> Result<[Act; classifier::LEVELS]> {
    let shape = s.tape.shape(x);
    if shape.dims()[1..3].iter().any(|&side| side < classifier::LEAST_SIDE) {
        return Err(Error::usage(format!("images of {shape} are too small for features"))
            .at("loss.perceptual.weight")
            .why("they are halved three times")
            .help("loss.perceptual.weight=0 turns them off"));
    }
    classifier::features(&mut scope(s).frozen(), x)
}

/// Records the classifier's training step on a tape of its own: see [`classifier::record_step`]. Its
/// plan is compiled with the group [`GROUP`], in f32.
pub fn record_step(
    tape: &mut Tape,
    table: &mut ParamTable,
    dims: &[usize],
    classes: usize,
) -> Result<()> {
    let mut s = Scope::new(tape, table);
    classifier::record_step(&mut scope(&mut s), dims, classes)
}

fn scope<'a>(s: &'a mut Scope<'_>) -> Scope<'a> {
    s.train_apart(GROUP);
    s.at(GROUP.trim_end_matches('.'))
}
