//! From slow-time samples to an image: clutter filter, noise, spectrogram, pooling, decibels.

use super::phasor::{unit_phasor, wrap};
use crate::rng::Rng;
use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};
use std::f64::consts::TAU;
use std::sync::Arc;

/// Spectrogram frames averaged into one pixel.
const FRAMES_PER_PIXEL: usize = 2;
/// Displayed dynamic range, dB.
pub const RANGE_DB: f64 = 40.0;

/// A receiver for one image size.
pub struct Receiver {
    size: usize,
    /// Hamming, as long as the transform.
    window: Vec<f32>,
    /// Samples from one frame to the next.
    hop: usize,
    clutter_filter: bool,
    /// Noise floor under the spectrogram's peak, dB: drawn uniformly between the two.
    floor_db: (f64, f64),
    fft: Arc<dyn Fft<f32>>,
}

/// Working memory of one thread.
#[derive(Default)]
pub struct Buffers {
    spectra: Vec<Complex<f32>>,
    fft: Vec<Complex<f32>>,
    powers: Vec<f32>,
}

impl Receiver {
    /// `span` samples make `size` columns; `size` divides `window` and 2 `size` divides `span`.
    pub fn new(
        size: usize,
        span: usize,
        window: usize,
        clutter_filter: bool,
        floor_db: (f64, f64),
    ) -> Self {
        let hamming = |n: usize| 0.54 - 0.46 * (TAU * n as f64 / window as f64).cos();
        Receiver {
            size,
            window: (0..window).map(|n| hamming(n) as f32).collect(),
            hop: span / (FRAMES_PER_PIXEL * size),
            clutter_filter,
            floor_db,
            fft: FftPlanner::new().plan_fft_forward(window),
        }
    }

    fn frames(&self) -> usize {
        FRAMES_PER_PIXEL * self.size
    }

    /// Samples an image needs, so that every frame is full.
    pub fn samples(&self) -> usize {
        (self.frames() - 1) * self.hop + self.window.len()
    }

    /// Image of `echo` (`samples()` values, used up) with noise: `size` x `size` in [0, 1], row 0
    /// the fastest approach. `clean` receives the image without noise.
    pub fn image(
        &self,
        echo: &mut [Complex<f32>],
        rng: &mut Rng,
        buffers: &mut Buffers,
        clean: Option<&mut Vec<f32>>,
    ) -> Vec<f32> {
        if self.clutter_filter {
            remove_clutter(echo, rng.range(0.0, 0.12));
        }
        self.spectrogram(echo, buffers);
        if let Some(clean) = clean {
            *clean = self.decibel_image(&buffers.spectra);
        }
        buffers.powers.clear();
        buffers.powers.extend(buffers.spectra.iter().map(|z| z.norm_sqr()));
        let peak = percentile(&mut buffers.powers, 99.5);
        let floor = 10f64.powf(-rng.range(self.floor_db.0, self.floor_db.1) / 10.0);
        let gain: f64 = self.window.iter().map(|&w| f64::from(w) * f64::from(w)).sum();
        add_noise(echo, peak * floor / gain, rng);
        self.spectrogram(echo, buffers);
        self.decibel_image(&buffers.spectra)
    }

    /// Windowed transforms of all frames, one after the other in `buffers.spectra`.
    fn spectrogram(&self, signal: &[Complex<f32>], buffers: &mut Buffers) {
        let Buffers { spectra, fft, .. } = buffers;
        spectra.clear();
        for frame in 0..self.frames() {
            let from = frame * self.hop;
            let samples = &signal[from..from + self.window.len()];
            spectra.extend(samples.iter().zip(&self.window).map(|(z, &w)| z * w));
        }
        fft.resize(self.fft.get_inplace_scratch_len(), Complex::default());
        self.fft.process_with_scratch(spectra, fft);
    }

    /// Pools power (multilook averaging, as radars do, not an average of decibels), then maps
    /// [peak - 40 dB, peak] to [0, 1]; the peak is the 99.8th percentile.
    fn decibel_image(&self, spectra: &[Complex<f32>]) -> Vec<f32> {
        let (size, window) = (self.size, self.window.len());
        let bins = window / size;
        let mut image = vec![0f32; size * size];
        for (frame, spectrum) in spectra.chunks_exact(window).enumerate() {
            let column = frame / FRAMES_PER_PIXEL;
            for (row, pixel) in image[column..].iter_mut().step_by(size).enumerate() {
                // Descending frequency: row * bins is bin window/2 - 1, the last is -window/2.
                let top = window + window / 2 - 1 - row * bins;
                *pixel += (0..bins).map(|i| spectrum[(top - i) % window].norm_sqr()).sum::<f32>();
            }
        }
        let looks = (bins * FRAMES_PER_PIXEL) as f32;
        for pixel in &mut image {
            *pixel = 10.0 * (*pixel / looks + 1e-30).log10();
        }
        let peak = percentile(&mut image.clone(), 99.8);
        for pixel in &mut image {
            *pixel = ((f64::from(*pixel) - peak) / RANGE_DB + 1.0).clamp(0.0, 1.0) as f32;
        }
        image
    }
}

/// Moving-target indication: takes the mean, the echo of all that stands still, off the signal;
/// the share `left` of it stays, since no filter is perfect.
fn remove_clutter(signal: &mut [Complex<f32>], left: f64) {
    let sum = signal.iter().fold(Complex::<f64>::default(), |sum, z| {
        sum + Complex::new(f64::from(z.re), f64::from(z.im))
    });
    let mean = sum * ((1.0 - left) / signal.len() as f64);
    let mean = Complex::new(mean.re as f32, mean.im as f32);
    for z in signal {
        *z -= mean;
    }
}

/// Adds circular complex Gaussian noise of mean square `variance`: both numbers of a Box-Muller
/// pair are used, radius sqrt(-variance ln u) and a uniform angle, from 32 random bits each.
fn add_noise(signal: &mut [Complex<f32>], variance: f64, rng: &mut Rng) {
    let unit = 1.0 / 4_294_967_296.0;
    for z in signal {
        let u = (f64::from(rng.next_u32()) + 0.5) * unit;
        let radius = (-variance * u.ln()).sqrt() as f32;
        let (cos, sin) = unit_phasor(wrap(f64::from(rng.next_u32()) * unit) as f32);
        *z += Complex::new(radius * cos, radius * sin);
    }
}

/// Percentile with linear interpolation between ranks; reorders `values`, which is not empty.
fn percentile(values: &mut [f32], percent: f64) -> f64 {
    let rank = percent / 100.0 * (values.len() - 1) as f64;
    let (_, low, above) = values.select_nth_unstable_by(rank as usize, f32::total_cmp);
    let low = f64::from(*low);
    let high = above.iter().copied().min_by(f32::total_cmp).map_or(low, f64::from);
    low + (high - low) * rank.fract()
}

#[cfg(test)]
mod tests {
    use super::super::{Preset, human};
    use super::*;
    use crate::rng::Stream;

    /// Image of a point that moves at constant radial velocity (m/s, positive approaching).
    fn point(size: usize, velocity: f64, floor_db: f64) -> Vec<f32> {
        let receiver = Preset::Human.receiver(size, (floor_db, floor_db));
        let hertz = 2.0 * velocity / Preset::Human.wavelength();
        let mut echo: Vec<Complex<f32>> = (0..receiver.samples())
            .map(|n| Complex::from_polar(1.0, TAU * hertz * n as f64 / human::RATE))
            .map(|z: Complex<f64>| Complex::new(z.re as f32, z.im as f32))
            .collect();
        let rng = &mut Rng::new(1, Stream::Test, 0);
        receiver.image(&mut echo, rng, &mut Buffers::default(), None)
    }

    fn brightest_row(image: &[f32], size: usize) -> usize {
        let sum = |row: usize| image[row * size..(row + 1) * size].iter().sum::<f32>();
        (0..size).max_by(|&a, &b| sum(a).total_cmp(&sum(b))).unwrap()
    }

    #[test]
    fn velocity_sets_the_row() {
        assert_eq!(brightest_row(&point(64, 2.0, 30.0), 64), 21);
        assert_eq!(brightest_row(&point(64, -3.0, 30.0), 64), 46);
        // lambda fs / 4: the fastest velocity without ambiguity.
        let fastest = Preset::Human.wavelength() * human::RATE / 4.0;
        for size in super::super::SIZES {
            for velocity in [-5.3, -1.1, 0.7, 2.9, 6.1] {
                let half = size as f64 / 2.0;
                let row = (size - 1) as f64 / 2.0 - velocity / fastest * half;
                let got = brightest_row(&point(size, velocity, 30.0), size) as f64;
                // The brightest row is the nearest one: half a row, and half a Doppler bin of
                // 256 because bin 0 has no counterpart at +fs/2.
                let tolerance = 0.5 + size as f64 / 512.0 + 1e-9;
                assert!((got - row).abs() <= tolerance, "{size}: {velocity} m/s in {got}, {row}");
            }
        }
    }

    /// The floor lies `floor_db` under the 99.5th percentile of the spectrogram. A tone in the
    /// centre of bin 42 puts 1 of 256 bins at its peak p and 2 at (0.23/0.54)^2 p, the side lobes
    /// of a Hamming window; these are the 99.5th percentile. All three share a row, which makes
    /// the brightest pixel (1 + 2 * 0.181) p / 4. Decibels of an average over at least 3
    /// independent looks have a mean up to 0.8 dB under the average's; noise adds up to 0.5 dB
    /// to the brightest pixels.
    #[test]
    fn noise_floor_is_where_it_was_asked() {
        let lobe = (0.23f64 / 0.54).powi(2);
        let velocity = 42.0 * human::RATE / 256.0 * Preset::Human.wavelength() / 2.0;
        for floor_db in [24.0, 30.0] {
            let image = point(64, velocity, floor_db);
            let lowest = &image[48 * 64..];
            let mean = lowest.iter().map(|&x| f64::from(x)).sum::<f64>() / lowest.len() as f64;
            let got = (mean - 1.0) * RANGE_DB;
            let expected = 10.0 * (lobe / ((1.0 + 2.0 * lobe) / 4.0)).log10() - floor_db;
            assert!((-1.3..0.0).contains(&(got - expected)), "{got} dB, not {expected}");
        }
    }

    #[test]
    fn noise_is_circular_and_has_its_variance() {
        let n = 50_000;
        let mut z = vec![Complex::<f32>::default(); n];
        add_noise(&mut z, 4.0, &mut Rng::new(2, Stream::Test, 0));
        let mean_square = z.iter().map(|z| f64::from(z.norm_sqr())).sum::<f64>() / n as f64;
        let square = z.iter().map(|z| z * z).sum::<Complex<f32>>() / n as f32;
        // |z|^2 is exponential: standard error 4 / sqrt(n); five of them. The parts of z^2 have
        // the standard error 4 / sqrt(n) too.
        let bound = 5.0 * 4.0 / (n as f64).sqrt();
        assert!((mean_square - 4.0).abs() < bound, "{mean_square}");
        assert!(f64::from(square.norm()) < bound, "{square}");
    }

    #[test]
    fn clutter_filter_leaves_the_share_it_should() {
        let mut z: Vec<Complex<f32>> =
            (0..1000).map(|n| Complex::new((n % 2) as f32, 1.0)).collect();
        remove_clutter(&mut z, 0.1);
        let mean = z.iter().sum::<Complex<f32>>() / 1000.0;
        // f32 sums of a thousand terms of size 1.
        assert!((mean - Complex::new(0.05, 0.1)).norm() < 1e-4, "{mean}");
    }

    /// numpy.percentile([3, 1, 2, 5], 80) is 3.8.
    #[test]
    fn percentile_interpolates_between_ranks() {
        assert!((percentile(&mut [3.0, 1.0, 2.0, 5.0], 80.0) - 3.8).abs() < 1e-12);
        assert_eq!(percentile(&mut [7.0], 99.5), 7.0);
    }
}
