//! The short-time Fourier transform, and power over Doppler and time.

use std::sync::Arc;

use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};

type Z = Complex<f64>;

/// Power, rows of Doppler from the highest frequency down, columns of time.
#[derive(Debug, Clone, PartialEq)]
pub struct Spectrogram {
    pub rows: usize,
    pub columns: usize,
    pub power: Vec<f64>,
}

/// A prepared transform: windowed frames of `window.len()` samples, `hop` apart, padded with zeros
/// to `nfft`. Only full frames are transformed: padding a complex signal by reflection would mirror
/// its Doppler.
pub struct Stft {
    window: Vec<f64>,
    hop: usize,
    nfft: usize,
    fft: Arc<dyn Fft<f64>>,
}

impl Stft {
    /// `hop` is at least 1, `nfft` at least the length of the window.
    pub fn new(window: Vec<f64>, hop: usize, nfft: usize) -> Self {
        let fft = FftPlanner::new().plan_fft_forward(nfft);
        Stft { window, hop, nfft, fft }
    }

    /// Full frames in so many samples.
    pub fn frames(&self, samples: usize) -> usize {
        samples.checked_sub(self.window.len()).map_or(0, |rest| rest / self.hop + 1)
    }

    /// The spectra, frame after frame, bins in the order of the transform: 0 to `nfft - 1`.
    pub fn spectra(&self, signal: &[Z]) -> Vec<Z> {
        let frames = self.frames(signal.len());
        let mut spectra = vec![Z::default(); frames * self.nfft];
        for (frame, spectrum) in spectra.chunks_exact_mut(self.nfft).enumerate() {
            let samples = &signal[frame * self.hop..];
            for ((out, z), w) in spectrum.iter_mut().zip(samples).zip(&self.window) {
                *out = z * w;
            }
        }
        self.fft.process(&mut spectra);
        spectra
    }

    /// Power of the spectra, the highest frequency in row 0; for an even `nfft` the last row is
    /// the one at minus half the sample rate.
    pub fn spectrogram(&self, signal: &[Z]) -> Spectrogram {
        let spectra = self.spectra(signal);
        let (rows, columns) = (self.nfft, self.frames(signal.len()));
        let mut power = Vec::with_capacity(spectra.len());
        for row in 0..rows {
            let bin = (top_bin(rows) + rows - row) % rows;
            power.extend((0..columns).map(|frame| spectra[frame * rows + bin].norm_sqr()));
        }
        Spectrogram { rows, columns, power }
    }
}

/// The bin of the highest positive frequency.
pub fn top_bin(nfft: usize) -> usize {
    nfft.saturating_sub(1) / 2
}

impl Spectrogram {
    /// Adds another of the same size: channels or range bins without regard to phase.
    pub fn add(&mut self, other: &Spectrogram) {
        self.power.iter_mut().zip(&other.power).for_each(|(sum, p)| *sum += p);
    }

    /// The rows `from..to`.
    pub fn crop(mut self, from: usize, to: usize) -> Self {
        self.power = self.power[from * self.columns..to * self.columns].to_vec();
        self.rows = to - from;
        self
    }

    /// The columns `from..to`.
    pub fn between(&self, from: usize, to: usize) -> Self {
        let rows = self.power.chunks_exact(self.columns.max(1));
        let power = rows.flat_map(|row| row[from..to].iter().copied()).collect();
        Spectrogram { rows: self.rows, columns: to - from, power }
    }

    /// The largest power.
    pub fn peak(&self) -> f64 {
        self.power.iter().copied().fold(0.0, f64::max)
    }

    /// Upside down.
    pub fn reverse(&mut self) {
        let rows = self.rows;
        self.rearrange(|row| rows - 1 - row);
    }

    /// Every frequency in the place of its negative, as if the signal were conjugate. Of an even number
    /// of rows the one at minus half the sample rate is its own negative.
    pub fn negate(&mut self) {
        let (rows, zero) = (self.rows, top_bin(self.rows));
        self.rearrange(|row| (2 * zero + rows - row) % rows);
    }

    fn rearrange(&mut self, from: impl Fn(usize) -> usize) {
        let row = |row: usize| &self.power[from(row) * self.columns..][..self.columns];
        self.power = (0..self.rows).flat_map(|r| row(r).iter().copied()).collect();
    }
}
