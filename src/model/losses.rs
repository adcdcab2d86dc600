//! The terms of the loss that compare an image with its reconstruction: [`Loss`] says which.

use super::Scope;
use crate::config::{Loss, Reconstruction};
use crate::error::Result;
use crate::metrics::psnr::foreground_threshold;
use crate::ops::{self, Penalty};
use crate::tape::Act;

/// Name of the input [n, h, w, c] with the weights of the pixels, which is there if
/// [`Loss::foreground`] is above 0; [`foreground_mask`] gives its values.
pub const FOREGROUND: &str = "foreground";

/// Smallest squared difference of a frame, in dB^2: equal frames are 0.01 dB apart, and the root
/// keeps a bounded slope, far below what is seen of a spectrogram.
const FRAME_EPS: f32 = 1e-4;
/// Smallest squared spectral convergence, likewise: a convergence of 0.1 %.
const CONVERGENCE_EPS: f32 = 1e-6;

/// One summand of the loss: a scalar and its weight.
#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    /// To report it by.
    pub name: String,
    pub value: Act,
    pub weight: f32,
}

impl Term {
    pub fn new(name: impl Into<String>, value: Act, weight: f32) -> Self {
        Term { name: name.into(), value, weight }
    }
}

/// The terms for `image`, the reconstruction of x, both [n, h, w, c]. The first is called
/// "reconstruction" and has a weight of 1: mean w rho(image - x), w = 1 unless the foreground weighs
/// more. The others are there if their weights are not 0:
///
/// * "log_spectral", in dB: the mean over samples, channels and frames (columns) of
///   sqrt(mean over rows of (D/2 (image - x))^2 + 1e-4), D the dynamic range;
/// * "spectral_R" for each resolution R: with magnitudes m = 10^(dB/20), dB = D/2 (x - 1), and their
///   powers averaged over R x R pixels, the mean over samples of
///   sqrt(|m(image) - m(x)|^2 / |m(x)|^2 + 1e-6) + mean |ln m(image) - ln m(x)|. This is the
///   multi-resolution STFT loss (Yamamoto, Song & Kim 2020, 1910.11480) carried over to images, with
///   coarser pixels in place of other windows. The resolutions share the weight evenly.
///
/// # Errors
/// A resolution that does not divide the sides of the images.
pub fn reconstruction(s: &mut Scope<'_>, loss: &Loss, image: Act, x: Act) -> Result<Vec<Term>> {
    let mut terms = vec![];
    let mut add = |name: String, value, weight| terms.push(Term::new(name, value, weight));
    add("reconstruction".into(), pixels(s, loss, image, x)?, 1.0);
    let decibels = loss.decibels() as f32;
    if loss.log_spectral > 0.0 {
        let lsd = ops::log_spectral_distance(s.tape, image, x, decibels, FRAME_EPS)?;
        add("log_spectral".into(), lsd, loss.log_spectral as f32);
    }
    if loss.multi_resolution > 0.0 {
        let share = loss.multi_resolution / loss.resolutions.len() as f64;
        for &r in &loss.resolutions {
            let [made, target] = [image, x].map(|x| ops::power_pool(s.tape, x, r, decibels));
            let distance = ops::spectral_distance(s.tape, made?, target?, CONVERGENCE_EPS)?;
            add(format!("spectral_{r}"), distance, share as f32);
        }
    }
    Ok(terms)
}

fn pixels(s: &mut Scope<'_>, loss: &Loss, image: Act, x: Act) -> Result<Act> {
    let penalty = match loss.reconstruction {
        Reconstruction::Mse => Penalty::Squared,
        Reconstruction::L1 => Penalty::Absolute,
        Reconstruction::SmoothL1 => Penalty::Smooth { beta: loss.smooth_l1_beta as f32 },
    };
    if loss.foreground > 0.0 {
        let dims = s.tape.shape(x);
        let weight = s.tape.input(FOREGROUND, dims.dims())?;
        return ops::pixel_loss(s.tape, image, x, Some(weight), penalty);
    }
    match penalty {
        Penalty::Squared => ops::mse(s.tape, image, x),
        penalty => ops::pixel_loss(s.tape, image, x, None, penalty),
    }
}

/// Weights of the pixels of images of `image_len` numbers, for the input [`FOREGROUND`]: 1 + `extra`
/// in the foreground of each, above its median + 3 median absolute deviations, 1 elsewhere, divided
/// by their mean over the image. `out` is as long as `pixels`; a part of an image at its end is an
/// image of its own.
pub fn foreground_mask(pixels: &[f32], image_len: usize, extra: f32, out: &mut [f32]) {
    let images = pixels.chunks(image_len.max(1)).zip(out.chunks_mut(image_len.max(1)));
    for (image, weights) in images {
        let Some(threshold) = foreground_threshold(image) else { continue };
        let above = |v: &f32| f64::from(*v) > threshold;
        let count = image.iter().filter(|v| above(v)).count();
        let mean = 1.0 + f64::from(extra) * count as f64 / image.len() as f64;
        let [below, inside] = [1.0, 1.0 + f64::from(extra)].map(|w| (w / mean) as f32);
        for (weight, v) in weights.iter_mut().zip(image) {
            *weight = if above(v) { inside } else { below };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ParamTable;
    use crate::tape::{Home, Tape};

    fn record(loss: &Loss) -> (Tape, Vec<Term>) {
        let (mut tape, mut table) = (Tape::new(), ParamTable::default());
        let mut s = Scope::new(&mut tape, &mut table);
        let image = s.tape.input("image", &[2, 8, 4, 1]).expect("a shape");
        let x = s.tape.input("x", &[2, 8, 4, 1]).expect("a shape");
        let terms = reconstruction(&mut s, loss, image, x).expect("divisible sides");
        (tape, terms)
    }

    #[test]
    fn the_default_is_the_squared_error_and_nothing_else() {
        let (tape, terms) = record(&Loss::default());
        assert_eq!(
            (terms[0].name.as_str(), terms[0].weight, terms.len()),
            ("reconstruction", 1.0, 1)
        );
        let mut plain = Tape::new();
        let image = plain.input("image", &[2, 8, 4, 1]).expect("a shape");
        let x = plain.input("x", &[2, 8, 4, 1]).expect("a shape");
        ops::mse(&mut plain, image, x).expect("equal shapes");
        let text = |tape: &Tape| format!("{:?}", tape.nodes());
        assert_eq!(text(&tape), text(&plain));
    }

    #[test]
    fn terms_follow_the_settings() {
        let loss = Loss {
            reconstruction: Reconstruction::L1,
            foreground: 2.0,
            log_spectral: 0.1,
            multi_resolution: 0.5,
            resolutions: vec![1, 4],
            ..Loss::default()
        };
        let (tape, terms) = record(&loss);
        let got: Vec<_> = terms.iter().map(|t| (t.name.as_str(), t.weight)).collect();
        let want = [
            ("reconstruction", 1.0),
            ("log_spectral", 0.1),
            ("spectral_1", 0.25),
            ("spectral_4", 0.25),
        ];
        assert_eq!(got, want);
        let inputs =
            |tape: &Tape| tape.values().filter(|(_, v)| matches!(v.home, Home::Input(_))).count();
        assert_eq!(inputs(&tape), 3);
    }

    #[test]
    fn blocks_must_fit() {
        let (mut tape, mut table) = (Tape::new(), ParamTable::default());
        let mut s = Scope::new(&mut tape, &mut table);
        let x = s.tape.input("x", &[1, 8, 6, 1]).expect("a shape");
        let loss = Loss { multi_resolution: 1.0, ..Loss::default() };
        let error = reconstruction(&mut s, &loss, x, x).expect_err("4 does not divide 6");
        assert!(error.to_string().contains("8 x 6"), "{error}");
    }

    /// Median 0.25, MAD 0.125: only 0.75 lies above 0.625. With 4 more, the mean of (1, 1, 1, 1, 5)
    /// is 1.8.
    #[test]
    fn foreground_weighs_more_and_the_mean_is_one() {
        let image = [0.125, 0.25, 0.375, 0.25, 0.75];
        let pixels = [&image[..], &[0.5; 5]].concat();
        let mut weights = [f32::NAN; 10];
        foreground_mask(&pixels, 5, 4.0, &mut weights);
        let (below, inside) = ((1.0 / 1.8) as f32, (5.0 / 1.8) as f32);
        assert_eq!(weights[..5], [below, below, below, below, inside]);
        assert_eq!(weights[5..], [1.0; 5]);
    }
}
