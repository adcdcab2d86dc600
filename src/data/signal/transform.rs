//! Every parameter of the way from a radar signal to an image, with its unit.

use serde::{Deserialize, Serialize};

use super::Window;
use super::spectrogram::top_bin;
use crate::data::Unit;

/// What the arrays of a file hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Input {
    /// Complex samples, one a pulse: `[samples]` or `[n, samples]`.
    #[default]
    SlowTime,
    /// Samples within a pulse by pulses: `[fast, slow]` or `[n, fast, slow]`.
    FastSlow,
    /// A spectrogram, complex or not: `[doppler, time]` or `[n, doppler, time]`.
    DopplerTime,
    /// Range-Doppler maps: `[frames, range, doppler]` or `[n, frames, range, doppler]`.
    RangeDoppler,
}

/// Filters against the echo of what stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mti {
    #[default]
    None,
    /// Subtract the mean over the recording.
    Mean,
    /// High-pass over slow time, of `mti_order` and `mti_cutoff`.
    Butterworth,
    /// Pulse canceller with `mti_taps`.
    Pulses,
}

/// How the chosen range bins become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RangeSum {
    /// Complex numbers are added, before the transform over slow time.
    #[default]
    Coherent,
    /// Powers are added, after it.
    Power,
}

/// What is averaged when the image is brought to its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resize {
    /// Power, before decibels are taken: as looks are averaged in a radar.
    #[default]
    Power,
    /// The finished picture.
    Level,
}

/// How power becomes a level in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Decibels below the image's reference, `clip_db` of them.
    #[default]
    Db,
    /// Magnitude, from the image's smallest to its largest.
    Minmax,
}

/// What the reference of decibels is taken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReferenceScope {
    /// The finished image: each has its own.
    #[default]
    Image,
    /// The whole recording before it is cropped and cut, the same for all its images: a still moment
    /// stays dark.
    Recording,
}

/// From a signal to an image. Presets are starting points: see [`presets`](super::presets).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Transform {
    pub input: Input,
    /// Pulses per second, Hz: the Doppler axis spans it. 0: unknown, for finished spectrograms.
    pub prf: f64,
    /// Carrier frequency, Hz; 0: unknown, and no velocities can be told.
    pub carrier: f64,
    /// Columns per second of finished spectrograms and range-Doppler maps, Hz; 0: unknown.
    pub frame_rate: f64,
    /// What real numbers of finished spectrograms are.
    pub unit: Unit,
    /// Over the samples of a pulse, before the transform to range.
    pub range_window: Window,
    /// Range bins that are used, first and one past the last; `[0, 0]`: all.
    pub range_bins: [usize; 2],
    pub range_sum: RangeSum,
    pub mti: Mti,
    pub mti_order: usize,
    /// -3 dB, relative to half the PRF.
    pub mti_cutoff: f64,
    pub mti_taps: Vec<f64>,
    pub window: Window,
    /// Samples.
    pub window_length: usize,
    /// MATLAB's windows are symmetric, SciPy's periodic.
    pub window_symmetric: bool,
    /// Samples from one frame to the next: the window's length less the overlap.
    pub hop: usize,
    /// Bins of the Doppler axis; at least `window_length`.
    pub nfft: usize,
    /// Doppler frequencies kept, plus and minus, Hz; 0: all.
    pub doppler_crop: f64,
    /// Positive Doppler is up; true turns the axis around: of a signal each frequency becomes its
    /// negative, as if it were conjugate; of finished rows the first becomes the last.
    pub flip: bool,
    /// Seconds of an image; 0: one image a recording, whatever its length.
    pub segment: f64,
    /// Seconds from one image to the next; 0: as long as the segment.
    pub stride: f64,
    pub level: Level,
    /// The percentile of the decibels that becomes level 1: 100 is their maximum.
    pub reference: f64,
    pub reference_scope: ReferenceScope,
    /// Level 0 lies this many decibels below the reference.
    pub clip_db: f64,
    pub resize: Resize,
    /// Rows (Doppler) and columns (time) of the image.
    pub size: [usize; 2],
}

impl Default for Transform {
    fn default() -> Self {
        Transform {
            input: Input::SlowTime,
            prf: 1000.0,
            carrier: 0.0,
            frame_rate: 0.0,
            unit: Unit::Amplitude,
            range_window: Window::Hamming,
            range_bins: [0, 0],
            range_sum: RangeSum::Coherent,
            mti: Mti::None,
            mti_order: 4,
            mti_cutoff: 0.0075,
            mti_taps: vec![1.0, -2.0, 1.0],
            window: Window::Hamming,
            window_length: 256,
            window_symmetric: false,
            hop: 64,
            nfft: 256,
            doppler_crop: 0.0,
            flip: false,
            segment: 0.0,
            stride: 0.0,
            level: Level::Db,
            reference: 100.0,
            reference_scope: ReferenceScope::Image,
            clip_db: 40.0,
            resize: Resize::Power,
            size: [64, 64],
        }
    }
}

/// Physical extent of an image: the outer edges of its first and last row and column.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Axes {
    /// Hz, at the top and at the bottom edge.
    pub doppler_hz: Option<[f64; 2]>,
    /// Radial velocity, m/s, towards the radar positive, at the two edges.
    pub velocity: Option<[f64; 2]>,
    /// From the left to the right edge; none where images cover recordings of any length.
    pub seconds: Option<f64>,
}

/// m/s.
const SPEED_OF_LIGHT: f64 = 299_792_458.0;
const MAX_LENGTH: usize = 1 << 20;

impl Transform {
    /// The first key with a senseless value, why, and what to do.
    pub fn violation(&self) -> Option<(&'static str, String, &'static str)> {
        let within = |key, v: f64, low: f64, high: f64, help| {
            let outside = !(low..=high).contains(&v);
            outside.then(|| (key, format!("{v} is not from {low} to {high}"), help))
        };
        let count = |key, v: usize, low: usize, help| {
            let outside = !(low..=MAX_LENGTH).contains(&v);
            outside.then(|| (key, format!("{v} is not from {low} to {MAX_LENGTH}"), help))
        };
        let known_rate = if self.has_slow_time() { 1e-3 } else { 0.0 };
        let [low, high] = self.range_bins;
        let bins = (low > high || high > MAX_LENGTH).then(|| {
            ("range_bins", format!("[{low}, {high}]"), "first bin, then one past the last")
        });
        let taps = (self.mti_taps.is_empty() || !self.mti_taps.iter().all(|t| t.is_finite()))
            .then(|| ("mti_taps", "no finite taps".into(), "for example [1, -2, 1]"));
        let nfft = (self.nfft < self.window_length).then(|| {
            let what = format!("{} is below window_length = {}", self.nfft, self.window_length);
            ("nfft", what, "use at least the window's length")
        });
        let crop = (self.doppler_crop > 0.0 && self.prf == 0.0)
            .then(|| ("doppler_crop", "needs prf".into(), "set prf, in Hz"));
        let segment = (self.segment > 0.0 && !self.has_slow_time() && self.frame_rate == 0.0)
            .then(|| ("segment", "needs frame_rate".into(), "set frame_rate, in Hz"));
        within("prf", self.prf, known_rate, 1e9, "pulses per second, in Hz")
            .or(within("carrier", self.carrier, 0.0, 1e13, "in Hz, 0 for unknown"))
            .or(within("frame_rate", self.frame_rate, 0.0, 1e6, "in Hz, 0 for unknown"))
            .or(bins)
            .or(within("mti_order", self.mti_order as f64, 1.0, 12.0, "a small whole number"))
            .or(within("mti_cutoff", self.mti_cutoff, 1e-5, 0.999, "relative to half the PRF"))
            .or(taps)
            .or(count("window_length", self.window_length, 1, "samples"))
            .or(count("hop", self.hop, 1, "samples"))
            .or(count("nfft", self.nfft, 2, "bins"))
            .or(nfft)
            .or(within("doppler_crop", self.doppler_crop, 0.0, 1e9, "in Hz, 0 for all"))
            .or(crop)
            .or(within("segment", self.segment, 0.0, 1e6, "in seconds, 0 for whole recordings"))
            .or(segment)
            .or(within("stride", self.stride, 0.0, 1e6, "in seconds, 0 for the segment's length"))
            .or(within("reference", self.reference, 1.0, 100.0, "a percentile"))
            .or(within("clip_db", self.clip_db, 0.1, 400.0, "in dB"))
            .or(within("size", self.size[0] as f64, 1.0, 8192.0, "[rows, columns]"))
            .or(within("size", self.size[1] as f64, 1.0, 8192.0, "[rows, columns]"))
    }

    /// Whether the input is samples over pulses, of which the spectrogram is yet to be made.
    pub fn has_slow_time(&self) -> bool {
        matches!(self.input, Input::SlowTime | Input::FastSlow)
    }

    /// The rows of a spectrogram of `rows` that `doppler_crop` keeps: those whose frequency lies
    /// within it. At least one is kept.
    pub fn kept_rows(&self, rows: usize) -> (usize, usize) {
        if self.doppler_crop == 0.0 || self.prf == 0.0 {
            return (0, rows);
        }
        let bin = self.prf / rows as f64;
        // A hair's breadth, so that the crop's own frequency is in whatever it is divided by.
        let most = (self.doppler_crop / bin * (1.0 + 1e-12)).floor() as usize;
        let zero = top_bin(rows);
        (zero.saturating_sub(most), zero.saturating_add(most).saturating_add(1).min(rows))
    }

    /// Extent of the images that a spectrogram of `rows` rows gives; `nfft` rows for signals.
    pub fn axes(&self, rows: usize) -> Axes {
        let (from, to) = self.kept_rows(rows);
        let bin = self.prf / rows as f64;
        let edge = |row: usize| (top_bin(rows) as f64 - row as f64 + 0.5) * bin;
        let doppler = (self.prf > 0.0).then(|| [edge(from), edge(to)]);
        let speed = |hz: f64| hz * SPEED_OF_LIGHT / (2.0 * self.carrier);
        let seconds = if self.has_slow_time() {
            self.frames_of_segment().map(|frames| (frames * self.hop) as f64 / self.prf)
        } else {
            self.frames_of_segment().map(|frames| frames as f64 / self.frame_rate)
        };
        Axes {
            doppler_hz: doppler,
            velocity: doppler.filter(|_| self.carrier > 0.0).map(|d| d.map(speed)),
            seconds,
        }
    }

    /// Columns of the spectrogram of one segment.
    fn frames_of_segment(&self) -> Option<usize> {
        (self.segment > 0.0).then(|| {
            if self.has_slow_time() {
                let samples = self.samples(self.segment);
                samples.checked_sub(self.window_length).map_or(0, |rest| rest / self.hop + 1)
            } else {
                self.samples(self.segment)
            }
        })
    }

    /// Samples, or columns of a finished spectrogram, in so many seconds.
    pub(super) fn samples(&self, seconds: f64) -> usize {
        let rate = if self.has_slow_time() { self.prf } else { self.frame_rate };
        (seconds * rate).round() as usize
    }
}
