//! Runs a [`Transform`] over recordings.

use std::f64::consts::TAU;

use rustfft::FftPlanner;
use rustfft::num_complex::Complex;

use super::mti::{HighPass, cancel, remove_mean};
use super::recordings::Recording;
use super::spectrogram::{Spectrogram, Stft};
use super::transform::{Input, Level, Mti, RangeSum, ReferenceScope, Resize, Transform};
use crate::data::Unit;
use crate::data::header::Checked;
use crate::data::percentile::percentile;
use crate::data::resize::Resizer;

type Z = Complex<f64>;

/// A transform with its windows and plans made.
pub struct Chain {
    transform: Transform,
    stft: Stft,
    high_pass: HighPass,
}

/// Power far below any image's floor, relative to its peak: the decibels of zero are finite.
const NOTHING: f64 = 1e-30;
/// Powers in one spectrogram: 1 GiB of them.
const MAX_SPECTROGRAM: usize = 1 << 27;

impl Chain {
    /// The transform has been checked: [`Transform::violation`] is none.
    pub fn new(transform: &Transform) -> Self {
        let t = transform;
        let window = t.window.weights(t.window_length, t.window_symmetric);
        Chain {
            stft: Stft::new(window, t.hop, t.nfft),
            high_pass: HighPass::butterworth(t.mti_order, t.mti_cutoff),
            transform: transform.clone(),
        }
    }

    pub fn transform(&self) -> &Transform {
        &self.transform
    }

    /// The images of a recording, rows x columns in [0, 1], one for each full segment: none if the
    /// recording is shorter than a segment. Errors are reasons in words.
    pub fn images(&self, recording: &Recording) -> Checked<Vec<Vec<f32>>> {
        let whole = match self.transform.input {
            Input::SlowTime | Input::FastSlow => return self.over_pulses(recording),
            Input::DopplerTime => {
                let [rows, columns] = axes(recording)?;
                let power = recording.samples.iter().map(|&z| self.power(z, recording.complex));
                Spectrogram { rows, columns, power: power.collect() }
            }
            Input::RangeDoppler => self.over_range(recording)?,
        };
        let parts = self.segments(whole.columns)?;
        let reference = self.scoped().then(|| self.reference(&whole));
        Ok(parts.into_iter().map(|(a, b)| self.image(whole.between(a, b), reference)).collect())
    }

    /// Segment after segment of a recording over slow time. The filter runs over the whole
    /// recording first, so that its transient is in the first segment only.
    fn over_pulses(&self, recording: &Recording) -> Checked<Vec<Vec<f32>>> {
        let channels: Vec<Vec<Z>> =
            self.channels(recording)?.into_iter().map(|z| self.filter(z)).collect();
        let samples = channels.first().map_or(0, Vec::len);
        let parts = self.segments(samples)?;
        let reference = match self.scoped() && !parts.is_empty() {
            true => Some(self.reference(&self.sum_of_channels(&channels, 0, samples)?)),
            false => None,
        };
        let image = |(from, to): (usize, usize)| {
            Ok(self.image(self.sum_of_channels(&channels, from, to)?, reference))
        };
        parts.into_iter().map(image).collect()
    }

    /// The spectrogram of the samples `from..to`, the powers of all channels added up.
    fn sum_of_channels(&self, channels: &[Vec<Z>], from: usize, to: usize) -> Checked<Spectrogram> {
        let (frames, nfft) = (self.stft.frames(to - from), self.transform.nfft);
        if frames.saturating_mul(nfft) > MAX_SPECTROGRAM {
            return Err(format!(
                "{frames} frames of {nfft} bins are more than the {MAX_SPECTROGRAM} numbers that one \
                 spectrogram may have (help: set data.signal.segment, or a larger hop)"
            ));
        }
        let mut sum: Option<Spectrogram> = None;
        for channel in channels {
            let one = self.stft.spectrogram(&channel[from..to]);
            match &mut sum {
                None => sum = Some(one),
                Some(sum) => sum.add(&one),
            }
        }
        sum.ok_or_else(|| "no range bin is chosen".to_string())
    }

    /// Whether all images of a recording share one reference.
    fn scoped(&self) -> bool {
        let t = &self.transform;
        t.reference_scope == ReferenceScope::Recording && t.level == Level::Db
    }

    /// The reference of a whole recording, in dB: the percentile of all there is before the crop.
    fn reference(&self, whole: &Spectrogram) -> f64 {
        let peak = whole.peak();
        let db = |p: &f64| decibels(p / peak) as f32;
        let mut all: Vec<f32> = whole.power.iter().map(db).collect();
        percentile(&mut all, self.transform.reference) + decibels(peak)
    }

    /// Ranges of samples or columns, one for each image.
    fn segments(&self, samples: usize) -> Checked<Vec<(usize, usize)>> {
        let t = &self.transform;
        let least = if t.has_slow_time() { t.window_length } else { 1 };
        if t.segment == 0.0 {
            if samples < least {
                return Err(format!("{samples} samples, one window takes {least}"));
            }
            return Ok(vec![(0, samples)]);
        }
        let len = t.samples(t.segment);
        if len < least {
            return Err(format!("a segment of {} s has {len} samples: too few", t.segment));
        }
        let stride = match t.stride {
            0.0 => len,
            seconds => t.samples(seconds).max(1),
        };
        let starts = (0..).map(|i: usize| i * stride).take_while(|from| from + len <= samples);
        Ok(starts.map(|from| (from, from + len)).collect())
    }

    /// Signals over slow time: one, or one for each range bin if their powers are to be added.
    fn channels(&self, recording: &Recording) -> Checked<Vec<Vec<Z>>> {
        if self.transform.input == Input::SlowTime {
            return Ok(vec![recording.samples.iter().map(|&z| wide(z)).collect()]);
        }
        let [fast, slow] = axes(recording)?;
        let (from, to) = self.range_bins(fast)?;
        if self.transform.range_bins == [0, 0]
            && self.transform.range_sum == RangeSum::Coherent
            && fast > 1
        {
            return Err(format!(
                "range_bins is not set: all {fast} bins of a pulse add up to its first sample \
                 (help: --set data.signal.range_bins=[first,last+1])"
            ));
        }
        let window = self.transform.range_window.weights(fast, false);
        Ok(match self.transform.range_sum {
            RangeSum::Coherent => {
                // A bin of the transform to range, and a sum of bins, is a weighted sum over fast time.
                let mut sum = vec![Z::default(); slow];
                for (n, row) in recording.samples.chunks_exact(slow).enumerate() {
                    let turn = |bin: usize| -TAU * ((bin * n) % fast) as f64 / fast as f64;
                    let w: Z = (from..to).map(|bin| Z::from_polar(window[n], turn(bin))).sum();
                    sum.iter_mut().zip(row).for_each(|(sum, &z)| *sum += w * wide(z));
                }
                vec![sum]
            }
            RangeSum::Power => {
                let fft = FftPlanner::new().plan_fft_forward(fast);
                let mut bins = vec![vec![Z::default(); slow]; to - from];
                let mut pulse = vec![Z::default(); fast];
                for t in 0..slow {
                    for (n, (z, w)) in pulse.iter_mut().zip(&window).enumerate() {
                        *z = w * wide(recording.samples[n * slow + t]);
                    }
                    fft.process(&mut pulse);
                    bins.iter_mut().zip(&pulse[from..to]).for_each(|(bin, &z)| bin[t] = z);
                }
                bins
            }
        })
    }

    fn range_bins(&self, bins: usize) -> Checked<(usize, usize)> {
        match self.transform.range_bins {
            [0, 0] => Ok((0, bins)),
            [from, to] if from < to && to <= bins => Ok((from, to)),
            chosen => Err(format!("range_bins = {chosen:?} of {bins} bins")),
        }
    }

    fn filter(&self, mut signal: Vec<Z>) -> Vec<Z> {
        match self.transform.mti {
            Mti::None => {}
            Mti::Mean => remove_mean(&mut signal),
            Mti::Butterworth => self.high_pass.apply(&mut signal),
            Mti::Pulses => signal = cancel(&signal, &self.transform.mti_taps),
        }
        signal
    }

    /// Power of a sample of a finished spectrogram.
    fn power(&self, z: Complex<f32>, complex: bool) -> f64 {
        if complex {
            return wide(z).norm_sqr();
        }
        let v = f64::from(z.re);
        match self.transform.unit {
            Unit::Amplitude => v * v,
            Unit::Power => v.abs(),
            Unit::Db => 10f64.powf(v.min(3000.0) / 10.0),
        }
    }

    /// Doppler-time from range-Doppler maps: each frame's range bins added up.
    fn over_range(&self, recording: &Recording) -> Checked<Spectrogram> {
        let [frames, range, rows] = recording.shape[..] else {
            return Err(format!("shape {:?} is not [frames, range, doppler]", recording.shape));
        };
        let (from, to) = self.range_bins(range)?;
        let mut power = vec![0.0; rows * frames];
        for (frame, map) in recording.samples.chunks_exact(range * rows).enumerate() {
            for line in map.chunks_exact(rows).take(to).skip(from) {
                for (row, &z) in line.iter().enumerate() {
                    power[row * frames + frame] += self.power(z, recording.complex);
                }
            }
        }
        Ok(Spectrogram { rows, columns: frames, power })
    }

    /// The picture of a spectrogram: cropped, sized, as levels, below a reference in dB or its own.
    fn image(&self, mut spectrogram: Spectrogram, reference: Option<f64>) -> Vec<f32> {
        let t = &self.transform;
        match (t.flip, t.has_slow_time()) {
            (false, _) => {}
            (true, true) => spectrogram.negate(),
            (true, false) => spectrogram.reverse(),
        }
        let (from, to) = t.kept_rows(spectrogram.rows);
        let spectrogram = spectrogram.crop(from, to);
        let peak = spectrogram.peak();
        if !(peak > 0.0 && peak.is_finite()) {
            return vec![0.0; t.size[0] * t.size[1]];
        }
        let reference = reference.map(|db| db - decibels(peak));
        // Relative to the peak, so that no unit overflows 32 bits.
        let power: Vec<f32> = spectrogram.power.iter().map(|p| (p / peak) as f32).collect();
        let from = (spectrogram.rows, spectrogram.columns);
        let resizer = Resizer::new(from, (t.size[0], t.size[1]), 1);
        let mut image = vec![0.0; t.size[0] * t.size[1]];
        match t.resize {
            Resize::Power => {
                resizer.apply(&power, &mut image);
                self.levels(&mut image, reference);
            }
            Resize::Level => {
                let mut levels = power;
                self.levels(&mut levels, reference);
                resizer.apply(&levels, &mut image);
            }
        }
        image
    }

    /// Power into [0, 1], in place; without a `reference` below its own.
    fn levels(&self, power: &mut [f32], reference: Option<f64>) {
        let t = &self.transform;
        match t.level {
            Level::Db => {
                for p in power.iter_mut() {
                    *p = decibels(f64::from(*p)) as f32;
                }
                let own = || percentile(&mut power.to_vec(), t.reference);
                let reference = reference.unwrap_or_else(own);
                for p in power.iter_mut() {
                    *p = ((f64::from(*p) - reference) / t.clip_db + 1.0).clamp(0.0, 1.0) as f32;
                }
            }
            Level::Minmax => {
                power.iter_mut().for_each(|p| *p = p.sqrt());
                let low = power.iter().copied().fold(f32::INFINITY, f32::min);
                let high = power.iter().copied().fold(0.0, f32::max);
                let range = if high > low { high - low } else { 1.0 };
                power.iter_mut().for_each(|p| *p = (*p - low) / range);
            }
        }
    }
}

fn decibels(power: f64) -> f64 {
    10.0 * (power + NOTHING).log10()
}

fn wide(z: Complex<f32>) -> Z {
    Z::new(f64::from(z.re), f64::from(z.im))
}

fn axes(recording: &Recording) -> Checked<[usize; 2]> {
    recording.shape[..]
        .try_into()
        .map_err(|_| format!("shape {:?} has not 2 axes", recording.shape))
}
