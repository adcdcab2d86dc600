//! `[loss]`: what makes a reconstruction good.

use serde::{Deserialize, Serialize};

use super::check::{Bounds, Violation, demand, real, whole};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reconstruction {
    /// Mean squared error: the best mean, blurred where the data are uncertain.
    Mse,
    /// Mean absolute error: the best median, less drawn by outliers.
    L1,
    /// Squared below `smooth_l1_beta`, absolute above it.
    SmoothL1,
}

/// The terms that compare an image with its reconstruction. Images are in [-1, 1]; a spectrogram is
/// linear in dB, its rows are Doppler frequencies and its columns time frames. The terms that speak
/// of dB have a meaning for such images alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Loss {
    /// The pixel term, of weight 1.
    pub reconstruction: Reconstruction,
    /// Difference of pixels where `smooth-l1` goes from squared to absolute; 0.1 of 2 is 2 of 40 dB.
    pub smooth_l1_beta: f64,
    /// How much more a foreground pixel weighs in the pixel term than another, whose weight is 1;
    /// 0 is off. Foreground lies above the median of the image + 3 median absolute deviations. The
    /// weights of an image are scaled to a mean of 1, so that the loss keeps its size.
    pub foreground: f64,
    /// Weight of the log-spectral distance, which is in dB: the mean over frames of the root mean
    /// square difference over rows. About 3 where the pixel term is 0.02; 0 is off.
    pub log_spectral: f64,
    /// Weight of the multi-resolution spectral term: magnitudes, not decibels, compared at every
    /// resolution of `resolutions`, which share the weight; 0 is off.
    pub multi_resolution: f64,
    /// Sides of the square blocks of pixels whose power is averaged first. Each divides both sides of
    /// the images.
    pub resolutions: Vec<usize>,
    /// Decibels between -1 and 1.
    pub dynamic_range_db: f64,
    /// A critic of patches that is trained beside the autoencoder.
    pub adversarial: Adversarial,
    /// A distance on features that the run trains itself.
    pub perceptual: Perceptual,
}

/// `[loss.adversarial]`: a discriminator of patches (Isola et al. 2017, 1611.07004) with the hinge loss
/// (Lim & Ye 2017, 1705.02894). It is for texture that pixel terms average away; reconstructions get
/// sharper and their PSNR lower. Use it once reconstruction has stopped improving, if at all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adversarial {
    /// Weight of the generator's term, minus the mean logit of reconstructions; 0 is off and makes no
    /// discriminator.
    pub weight: f64,
    /// Steps before the discriminator is trained and heard.
    pub start: u64,
    /// Convolutions of stride 2: each doubles the size of the patches that are judged.
    pub layers: usize,
    /// Channels of the first convolution, doubled by each further one up to eight times; a multiple
    /// of 8, the groups of its norms.
    pub width: usize,
    /// Learning rate of the discriminator.
    pub lr: f64,
}

impl Default for Adversarial {
    fn default() -> Self {
        Adversarial { weight: 0.0, start: 5_000, layers: 3, width: 32, lr: 1e-4 }
    }
}

impl Adversarial {
    fn check(&self) -> Result<(), Violation> {
        real("loss.adversarial.weight", self.weight, Bounds::Closed(0.0, 100.0))?;
        whole("loss.adversarial.start", self.start, 0, 1 << 40)?;
        whole("loss.adversarial.layers", self.layers as u64, 1, 6)?;
        whole("loss.adversarial.width", self.width as u64, 8, 512)?;
        demand(
            self.width.is_multiple_of(8),
            "loss.adversarial.width",
            format!("{} is not a multiple of 8", self.width),
            "use a multiple of 8, for example 32",
        )?;
        real("loss.adversarial.lr", self.lr, Bounds::OpenClosed(0.0, 1.0))
    }
}

/// `[loss.perceptual]`: the distance of images in the features of a small classifier, which learns the
/// classes of the training images before the first step, or without classes which way an image is
/// turned. As with the discriminator, reconstructions get sharper and their PSNR lower.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Perceptual {
    /// Of the distance, which is between 0 and 4 and mostly below 1; 0 is off and trains nothing.
    pub weight: f64,
    /// Steps of 32 images that the features are trained for.
    pub steps: u64,
}

impl Default for Perceptual {
    fn default() -> Self {
        Perceptual { weight: 0.0, steps: 300 }
    }
}

impl Perceptual {
    fn check(&self) -> Result<(), Violation> {
        real("loss.perceptual.weight", self.weight, Bounds::Closed(0.0, 100.0))?;
        whole("loss.perceptual.steps", self.steps, 1, 1 << 20)
    }
}

impl Default for Loss {
    fn default() -> Self {
        Loss {
            reconstruction: Reconstruction::Mse,
            smooth_l1_beta: 0.1,
            foreground: 0.0,
            log_spectral: 0.0,
            multi_resolution: 0.0,
            resolutions: vec![1, 2, 4],
            dynamic_range_db: 40.0,
            adversarial: Adversarial::default(),
            perceptual: Perceptual::default(),
        }
    }
}

impl Loss {
    /// # Errors
    /// The first value that is out of its range.
    pub fn check(&self) -> Result<(), Violation> {
        real("loss.smooth_l1_beta", self.smooth_l1_beta, Bounds::OpenClosed(0.0, 2.0))?;
        real("loss.foreground", self.foreground, Bounds::Closed(0.0, 1000.0))?;
        real("loss.log_spectral", self.log_spectral, Bounds::Closed(0.0, 1000.0))?;
        real("loss.multi_resolution", self.multi_resolution, Bounds::Closed(0.0, 1000.0))?;
        demand(
            (1..=8).contains(&self.resolutions.len()),
            "loss.resolutions",
            format!("{} resolutions", self.resolutions.len()),
            "give 1 to 8 block sizes, for example [1, 2, 4]; loss.multi_resolution=0 turns them off",
        )?;
        for (i, &r) in self.resolutions.iter().enumerate() {
            whole("loss.resolutions", r as u64, 1, 256)?;
            demand(
                !self.resolutions[..i].contains(&r),
                "loss.resolutions",
                format!("{r} is there twice"),
                "name every block size once",
            )?;
        }
        real("loss.dynamic_range_db", self.dynamic_range_db, Bounds::OpenClosed(0.0, 200.0))?;
        self.adversarial.check()?;
        self.perceptual.check()
    }

    /// Decibels that a unit of an image spans.
    pub fn decibels(&self) -> f64 {
        self.dynamic_range_db / 2.0
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn set(text: &str) -> Result<Config, String> {
        Config::parse("test", "", &[text.into()]).map_err(|e| e.to_string())
    }

    #[test]
    fn every_key_is_read_and_checked() {
        let config = set("loss.reconstruction=smooth-l1").expect("a known word");
        assert_eq!(config.loss.reconstruction, super::Reconstruction::SmoothL1);
        for good in ["loss.foreground=2", "loss.resolutions=[1, 8]", "loss.dynamic_range_db=60"] {
            assert!(set(good).is_ok(), "{good}");
        }
        for bad in [
            "loss.reconstruction=huber",
            "loss.smooth_l1_beta=0",
            "loss.foreground=-1",
            "loss.log_spectral=nan",
            "loss.multi_resolution=-0.1",
            "loss.resolutions=[]",
            "loss.resolutions=[1, 0]",
            "loss.resolutions=[2, 2]",
            "loss.dynamic_range_db=201",
            "loss.dynamic_range=40",
            "loss.adversarial.weight=-1",
            "loss.adversarial.layers=0",
            "loss.adversarial.width=12",
            "loss.adversarial.lr=0",
            "loss.perceptual.weight=-1",
            "loss.perceptual.steps=0",
        ] {
            let error = set(bad).expect_err(bad);
            assert!(error.contains("loss"), "{bad}: {error}");
        }
    }
}
