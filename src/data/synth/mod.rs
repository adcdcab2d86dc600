//! Micro-Doppler simulator: spectrogram images of moving people and of rotors, from physics.
//!
//! A scene of point scatterers (people, bicycles, birds) or rotating blades gives a complex
//! slow-time signal; a receiver turns it into an image the way radar papers do: clutter filter,
//! short-time Fourier transform, decibels under the peak. Time runs along the columns and radial
//! velocity along the rows, approaching on top.
//!
//! An image is a pure function of (preset, size, seed, index, noise floor). Scenes do not depend
//! on the size or the floor, so the same person walks in the 32 and in the 128 pixel image. The
//! bytes are the same at any thread count; machines with other vector units or another maths
//! library may round single pixels differently by one grey level.

mod bicycle;
mod bird;
mod body;
mod curve;
mod echo;
mod fall;
mod gait;
mod human;
mod phasor;
mod posture;
mod receiver;
mod rotor;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::rng::{Rng, Stream};
use rayon::prelude::*;
pub use receiver::RANGE_DB;
use receiver::Receiver;
use rustfft::num_complex::Complex;
use std::fmt;
use std::str::FromStr;

/// Image sizes: every pixel is a whole number of Doppler bins by two frames.
pub const SIZES: [usize; 3] = [32, 64, 128];

/// m/s.
const SPEED_OF_LIGHT: f64 = 299_792_458.0;

/// What is simulated, and with which radar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// People, 24.125 GHz, 3 s, +-6.36 m/s, noise floor 24 to 38 dB under the peak.
    Human,
    /// Drones, helicopters and propellers, 10 GHz, 128 ms, +-240 m/s, floor 24 to 36 dB.
    Rotor,
}

impl Preset {
    /// Names of the classes drawn by default, in label order.
    pub fn class_names(self) -> &'static [&'static str] {
        match self {
            Preset::Human => &human::CLASSES[..human::DEFAULT_CLASSES],
            Preset::Rotor => &rotor::CLASSES,
        }
    }

    /// Names of all classes that `SynthSpec::classes` can ask for: the default ones, then for
    /// `Human` "bird".
    pub fn all_class_names(self) -> &'static [&'static str] {
        match self {
            Preset::Human => &human::CLASSES,
            Preset::Rotor => &rotor::CLASSES,
        }
    }

    /// Noise floor under the peak of the spectrogram, dB: drawn uniformly for each image.
    pub fn default_floor_db(self) -> (f64, f64) {
        match self {
            Preset::Human => (24.0, 38.0),
            Preset::Rotor => (24.0, 36.0),
        }
    }

    fn wavelength(self) -> f64 {
        match self {
            Preset::Human => SPEED_OF_LIGHT / human::CARRIER,
            Preset::Rotor => SPEED_OF_LIGHT / rotor::CARRIER,
        }
    }

    /// Receiver of this preset; `size` is one of `SIZES`.
    fn receiver(self, size: usize, floor_db: (f64, f64)) -> Receiver {
        match self {
            Preset::Human => Receiver::new(size, human::SPAN, human::WINDOW, true, floor_db),
            Preset::Rotor => Receiver::new(size, rotor::SPAN, size.max(64), false, floor_db),
        }
    }
}

impl FromStr for Preset {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "human" => Ok(Preset::Human),
            "rotor" => Ok(Preset::Rotor),
            _ => Err(Error::usage(format!("no simulator preset is called {name:?}"))
                .help("use \"human\" or \"rotor\"")),
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Preset::Human => "human",
            Preset::Rotor => "rotor",
        })
    }
}

/// Which images to simulate.
#[derive(Debug, Clone, PartialEq)]
pub struct SynthSpec {
    pub preset: Preset,
    /// Pixels a side: one of `SIZES`.
    pub size: usize,
    /// Images `generate` makes: indices 0..n.
    pub n: usize,
    pub seed: u64,
    /// Noise floor under the peak, dB, drawn uniformly between the two values of each image;
    /// `None` is the preset's own. `Some((45.0, 45.0))` is nearly free of noise.
    pub floor_db: Option<(f64, f64)>,
    /// Classes to draw from in turn, as indices into `Preset::all_class_names`; `None` is the
    /// default ones. Labels stay these indices, whichever classes are chosen.
    pub classes: Option<Vec<usize>>,
}

impl SynthSpec {
    /// Names by label: the default classes, and "bird" if it is asked for.
    pub fn class_names(&self) -> &'static [&'static str] {
        let asked = self.classes.iter().flatten().map(|class| class + 1).max().unwrap_or(0);
        let all = self.preset.all_class_names();
        &all[..asked.max(self.preset.class_names().len()).min(all.len())]
    }

    fn check(&self) -> Result<()> {
        if !SIZES.contains(&self.size) {
            return Err(Error::usage(format!(
                "images of {0} x {0} cannot be simulated",
                self.size
            ))
            .why("a pixel is a whole number of Doppler bins by two frames")
            .help("use a size of 32, 64 or 128"));
        }
        if let Some((low, high)) = self.floor_db
            && !(0.0 <= low && low <= high && high <= 200.0)
        {
            return Err(Error::usage(format!("noise floor {low}..{high} dB is out of range"))
                .why("it is counted downwards from the peak, the smaller value first")
                .help("use values from 0 to 200, such as 24,38 or 45,45"));
        }
        let known = self.preset.all_class_names();
        if let Some(classes) = &self.classes {
            if classes.is_empty() {
                return Err(Error::usage("the list of classes is empty")
                    .help("name at least one class, or leave the list out for all"));
            }
            if let Some(class) = classes.iter().find(|&&class| class >= known.len()) {
                return Err(Error::usage(format!(
                    "the {} preset has no class {class}",
                    self.preset
                ))
                .why(format!("its classes are 0..{}: {}", known.len() - 1, known.join(", ")))
                .help("choose from these"));
            }
        }
        Ok(())
    }

    /// Label of an image: classes take turns.
    fn label(&self, index: u64) -> usize {
        match &self.classes {
            Some(classes) => classes[(index % classes.len() as u64) as usize],
            None => (index % self.preset.class_names().len() as u64) as usize,
        }
    }
}

/// A simulated data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SynthSet {
    /// round(255 x), shape [n, size, size].
    pub pixels_u8: Vec<u8>,
    /// Shape [n].
    pub labels: Vec<u32>,
    /// Indexed by label.
    pub class_names: Vec<String>,
    pub size: usize,
}

/// Image `index`: `size` x `size` values in [0, 1], row-major, row 0 at +fs/2, and its label.
///
/// A plan for the transforms is made on every call; `generate` shares one.
/// Errors (usage): size, classes or noise floor out of range.
pub fn image(spec: &SynthSpec, index: u64) -> Result<(Vec<f32>, u32)> {
    let simulator = Simulator::new(spec)?;
    Ok(simulator.image(index, &mut Buffers::default(), None))
}

/// The complex slow-time signal behind [`image`], noise and clutter filter included, and the label.
/// Errors as `image`.
pub fn signal(spec: &SynthSpec, index: u64) -> Result<(Vec<Complex<f32>>, u32)> {
    let simulator = Simulator::new(spec)?;
    let mut buffers = Buffers::default();
    // The receiver leaves what it transformed last: the signal with its noise.
    let (_, label) = simulator.image(index, &mut buffers, None);
    Ok((buffers.signal, label))
}

/// A noisy image, the same scene received without noise, and the label.
#[derive(Debug, Clone, PartialEq)]
pub struct ImagePair {
    pub noisy: Vec<f32>,
    pub clean: Vec<f32>,
    pub label: u32,
}

/// As `image`, with the noise-free image that a denoiser or codec should be scored against. Each
/// of the two is scaled to its own peak. Errors as `image`.
pub fn image_pair(spec: &SynthSpec, index: u64) -> Result<ImagePair> {
    let simulator = Simulator::new(spec)?;
    let mut clean = Vec::new();
    let (noisy, label) = simulator.image(index, &mut Buffers::default(), Some(&mut clean));
    Ok(ImagePair { noisy, clean, label })
}

/// Images 0..n on all threads of the current rayon pool; the bytes do not depend on their number.
///
/// Errors: as `image`; usage if n is 0; failed if the images do not fit into memory.
pub fn generate(spec: &SynthSpec) -> Result<SynthSet> {
    let simulator = Simulator::new(spec)?;
    if spec.n == 0 {
        return Err(
            Error::usage("a data set of 0 images was asked for").help("use n of at least 1")
        );
    }
    let area = spec.size * spec.size;
    let mut pixels_u8 = Vec::new();
    let bytes = spec.n.checked_mul(area).filter(|&b| pixels_u8.try_reserve_exact(b).is_ok());
    let Some(bytes) = bytes else {
        return Err(Error::failed(format!("no memory for {} simulated images", spec.n))
            .why(format!("each takes {area} bytes"))
            .help("ask for fewer or smaller images"));
    };
    pixels_u8.resize(bytes, 0);
    pixels_u8.par_chunks_exact_mut(area).enumerate().for_each_init(
        Buffers::default,
        |buffers, (index, out)| {
            let (image, _) = simulator.image(index as u64, buffers, None);
            for (byte, x) in out.iter_mut().zip(image) {
                *byte = (x * 255.0).round() as u8;
            }
        },
    );
    Ok(SynthSet {
        pixels_u8,
        labels: (0..spec.n as u64).map(|index| spec.label(index) as u32).collect(),
        class_names: spec.class_names().iter().map(|name| name.to_string()).collect(),
        size: spec.size,
    })
}

/// A checked spec with its receiver, shared by all threads.
struct Simulator<'a> {
    spec: &'a SynthSpec,
    receiver: Receiver,
}

/// Working memory of one thread. Nothing in it outlives an image.
#[derive(Default)]
struct Buffers {
    signal: Vec<Complex<f32>>,
    echo: echo::Buffers,
    receiver: receiver::Buffers,
}

impl<'a> Simulator<'a> {
    fn new(spec: &'a SynthSpec) -> Result<Self> {
        spec.check()?;
        let floor_db = spec.floor_db.unwrap_or(spec.preset.default_floor_db());
        Ok(Simulator { spec, receiver: spec.preset.receiver(spec.size, floor_db) })
    }

    fn image(
        &self,
        index: u64,
        buffers: &mut Buffers,
        clean: Option<&mut Vec<f32>>,
    ) -> (Vec<f32>, u32) {
        let preset = self.spec.preset;
        let class = self.spec.label(index);
        let rng = &mut Rng::new(self.spec.seed, Stream::Synth, index);
        let (wavelength, samples) = (preset.wavelength(), self.receiver.samples());
        let Buffers { signal, echo, receiver } = buffers;
        match preset {
            Preset::Human => {
                human::draw(class, rng).echo(wavelength, human::RATE, samples, echo, signal);
            }
            Preset::Rotor => {
                rotor::draw(class, rng).echo(wavelength, rotor::RATE, samples, signal);
            }
        }
        (self.receiver.image(signal, rng, receiver, clean), class as u32)
    }
}
