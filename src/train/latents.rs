//! Images to standardised latents: what Gaussian diffusion learns.

use super::codes::{Tokenizer, recall_as, remember_as};
use crate::data::Dataset;
use crate::device::Device;
use crate::device::tuner::Table;
use crate::error::{Error, Result};
use crate::model::autoencoder;
use crate::model::denoiser::continuous::LatentGrid;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Name of the checkpoint's entry with a [`Standard`].
pub const STANDARD: &str = "latents";

/// Mean and standard deviation of every channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standard {
    mean: Vec<f32>,
    deviation: Vec<f32>,
}

impl Standard {
    /// Of the latents of `rows`; each has `length` numbers, channels counting fastest. A channel that never
    /// changes keeps its scale.
    pub fn fit(latents: &[f32], rows: &[u32], length: usize, channels: usize) -> Self {
        let (mut sum, mut squares) = (vec![0.0; channels], vec![0.0; channels]);
        let places = || {
            let each = rows.iter().map(|&row| &latents[row as usize * length..][..length]);
            each.flat_map(|latent| latent.chunks_exact(channels))
        };
        let n = (rows.len() * length / channels).max(1) as f64;
        for place in places() {
            sum.iter_mut().zip(place).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        let mean: Vec<f64> = sum.into_iter().map(|sum| sum / n).collect();
        for place in places() {
            for ((squares, &x), mean) in squares.iter_mut().zip(place).zip(&mean) {
                *squares += (f64::from(x) - mean).powi(2);
            }
        }
        let deviation = squares.into_iter().map(|squares: f64| (squares / n).sqrt() as f32);
        Standard {
            deviation: deviation.map(|d| if d > 0.0 { d } else { 1.0 }).collect(),
            mean: mean.into_iter().map(|mean| mean as f32).collect(),
        }
    }

    /// Of a checkpoint.
    pub fn parse(text: &str, channels: usize) -> Result<Self> {
        let bad = |why: String| {
            Error::disk("the checkpoint's scale of the latents cannot be read").why(why)
        };
        let known: Standard = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        let usable = |d: &f32| d.is_finite() && *d > 0.0;
        match (known.mean.len(), known.deviation.len()) == (channels, channels)
            && known.deviation.iter().all(usable)
        {
            true => Ok(known),
            false => Err(bad(format!("it is not of {channels} channels"))),
        }
    }

    fn each(&self, values: &mut [f32], change: impl Fn(&mut f32, f32, f32)) {
        for place in values.chunks_exact_mut(self.mean.len()) {
            for ((x, &mean), &deviation) in place.iter_mut().zip(&self.mean).zip(&self.deviation) {
                change(x, mean, deviation);
            }
        }
    }

    /// To mean 0 and deviation 1.
    pub fn apply(&self, values: &mut [f32]) {
        self.each(values, |x, mean, deviation| *x = (*x - mean) / deviation);
    }

    /// Back again.
    pub fn undo(&self, values: &mut [f32]) {
        self.each(values, |x, mean, deviation| *x = *x * deviation + mean);
    }
}

impl Tokenizer {
    /// The latent grid of the data.
    pub fn latent_grid(&self, data: &Dataset) -> Result<LatentGrid> {
        let (rows, cols) = self.grid(data)?;
        let (cols, classes) = (cols / self.heads(), data.classes());
        Ok(LatentGrid { rows, cols, channels: self.config.model.vq_embed_dim, classes })
    }

    /// What the decoder is given for every image, in order, [n, rows, cols, channels]: 4 bytes a number in
    /// memory. And what the tuner chose for it.
    pub fn latents(&self, device: Box<dyn Device>, data: &Dataset) -> Result<(Vec<f32>, Table)> {
        let length = self.latent_grid(data)?.length();
        let mut latents = Vec::with_capacity(data.n * length);
        let choices = self.over(
            device,
            data,
            |s, x| {
                let latents = autoencoder::latents(s, &self.config, x)?;
                s.tape.output("latents", latents)
            },
            |store, plan, images| {
                let made = store.read_f32(plan.output("latents")?)?;
                latents.extend_from_slice(&made[..images * length]);
                Ok(())
            },
        )?;
        if latents.iter().any(|x| !x.is_finite()) {
            return Err(Error::diverged("the tokenizer makes latents that are not finite")
                .help("take another run with --tokenizer"));
        }
        Ok((latents, choices))
    }
}

/// The latents in `cache`, if they were made by this tokenizer from this data.
pub fn recall(cache: &Path, tokenizer: &Tokenizer, data: &Dataset) -> Result<Option<Vec<f32>>> {
    recall_as("latents", cache, tokenizer, data)
}

/// Writes `latents` into `cache`.
pub fn remember(
    cache: &Path,
    tokenizer: &Tokenizer,
    data: &Dataset,
    latents: Vec<f32>,
) -> Result<()> {
    remember_as("latents", cache, tokenizer, data, latents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_standardised_by_their_training_part() {
        // Three images of two places and two channels; the last is held out. One channel never changes.
        let mut latents = vec![1.0, 7.0, 3.0, 7.0, 5.0, 7.0, 7.0, 7.0, 100.0, 8.0, 0.0, 7.0];
        let standard = Standard::fit(&latents, &[0, 1], 4, 2);
        // Mean 4 of 1, 3, 5, 7, variance (9 + 1 + 1 + 9) / 4.
        let want = Standard { mean: vec![4.0, 7.0], deviation: vec![5f32.sqrt(), 1.0] };
        assert_eq!(standard, want);
        let before = latents.clone();
        standard.apply(&mut latents);
        assert_eq!((latents[0], latents[1], latents[9]), (-3.0 / 5f32.sqrt(), 0.0, 1.0));
        standard.undo(&mut latents);
        for (a, b) in latents.iter().zip(&before) {
            // A difference, a quotient, a product and a sum are rounded, none of more than 104.
            assert!((a - b).abs() <= 4.0 * 104.0 * f32::EPSILON, "{a} {b}");
        }
        let text = serde_json::to_string(&standard).unwrap();
        assert_eq!(Standard::parse(&text, 2).unwrap(), standard);
        for (text, channels) in [(&*text, 3), ("{}", 2), (r#"{"mean":[0.0],"deviation":[0.0]}"#, 1)]
        {
            assert!(Standard::parse(text, channels).is_err(), "{text}");
        }
    }
}
