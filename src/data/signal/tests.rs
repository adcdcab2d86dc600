//! Against SciPy, against closed forms, against the simulator.

use rustfft::num_complex::Complex;
use std::f64::consts::TAU;

use super::mti::{HighPass, cancel, remove_mean};
use super::recordings::Recording;
use super::spectrogram::Stft;
use super::*;
use crate::data::synth::{self, Preset, SynthSpec};

type Z = Complex<f64>;

fn scipy(name: &str) -> Vec<Z> {
    let text = include_str!("../../../kernels_tests/fixtures/signal/scipy.json");
    let all: serde_json::Value = serde_json::from_str(text).unwrap();
    let numbers: Vec<f64> = serde_json::from_value(all[name].clone()).unwrap();
    numbers.chunks_exact(2).map(|z| Z::new(z[0], z[1])).collect()
}

fn agree(got: &[Z], want: &[Z]) {
    assert_eq!(got.len(), want.len());
    // Sums of at most 90 terms of size at most 4 in f64, and the recursion of the filter, whose
    // poles near 1 keep an error alive for hundreds of samples: 1e-12 leaves a factor of a thousand.
    for (i, (a, b)) in got.iter().zip(want).enumerate() {
        assert!((a - b).norm() <= 1e-12 * (1.0 + b.norm()), "{i}: {a} {b}");
    }
}

#[test]
fn stft_and_filters_are_those_of_scipy() {
    let z = scipy("signal");
    let stft = |w: Window, symmetric, len, hop, nfft| {
        Stft::new(w.weights(len, symmetric), hop, nfft).spectra(&z)
    };
    agree(&stft(Window::Hamming, false, 16, 4, 32), &scipy("hamming"));
    agree(&stft(Window::Hann, true, 15, 7, 15), &scipy("hann"));
    agree(&stft(Window::Blackman, false, 12, 12, 16), &scipy("blackman"));
    for (order, cutoff) in [(4, 0.0075), (3, 0.2)] {
        let mut filtered = z.clone();
        HighPass::butterworth(order, cutoff).apply(&mut filtered);
        agree(&filtered, &scipy(&format!("highpass{order}")));
    }
}

#[test]
fn cancellers() {
    let still = vec![Z::new(3.0, -1.0); 9];
    for taps in [&[1.0, -1.0][..], &[1.0, -2.0, 1.0]] {
        let left = cancel(&still, taps);
        assert_eq!(left.len(), 10 - taps.len());
        assert!(left.iter().all(|z| z.norm() == 0.0));
    }
    let ramp: Vec<Z> = (0..5).map(|t| Z::new(f64::from(t * t), 0.0)).collect();
    // The newest sample has the first tap: (t+1)^2 - 3 t^2 for t = 0, 1, 2, 3.
    let want: Vec<Z> = [1.0, 1.0, -3.0, -11.0].map(|v| Z::new(v, 0.0)).to_vec();
    assert_eq!(cancel(&ramp, &[1.0, -3.0]), want);
    let mut mean = vec![Z::new(1.0, 0.0), Z::new(3.0, 2.0)];
    remove_mean(&mut mean);
    assert_eq!(mean, [Z::new(-1.0, -1.0), Z::new(1.0, 1.0)]);
}

/// The energy of a frame's spectrum is nfft times that of the windowed samples; Hann windows half
/// a length apart add up to one; frames are counted by what fits.
#[test]
fn parseval_and_overlap() {
    let z = scipy("signal");
    let window = Window::Hamming.weights(20, false);
    let stft = Stft::new(window.clone(), 6, 32);
    assert_eq!((stft.frames(90), stft.frames(20), stft.frames(19)), (12, 1, 0));
    let spectrogram = stft.spectrogram(&z);
    for frame in 0..spectrogram.columns {
        let energy: f64 = z[frame * 6..].iter().zip(&window).map(|(z, w)| (z * w).norm_sqr()).sum();
        let power: f64 = spectrogram.power.iter().skip(frame).step_by(spectrogram.columns).sum();
        // 32 terms in f64.
        assert!((power - 32.0 * energy).abs() <= 1e-12 * power, "{frame}");
    }
    let hann = Window::Hann.weights(16, false);
    assert!((0..8).all(|n| (hann[n] + hann[n + 8] - 1.0).abs() < 1e-15));
    let flat = Window::Rectangular.weights(5, true);
    assert_eq!(flat, [1.0; 5]);
    let symmetric = Window::Hamming.weights(7, true);
    assert!((symmetric[0] - symmetric[6]).abs() < 1e-15);
}

fn tone(cycles: f64, samples: usize) -> Recording {
    let at = |t: usize| Z::from_polar(1.0, TAU * cycles * t as f64);
    let narrow = |z: Z| Complex::new(z.re as f32, z.im as f32);
    Recording {
        name: "tone".into(),
        shape: vec![samples],
        samples: (0..samples).map(|t| narrow(at(t))).collect(),
        complex: true,
    }
}

pub(super) fn brightest_row(image: &[f32], columns: usize) -> usize {
    let sum = |row: usize| image[row * columns..][..columns].iter().sum::<f32>();
    (0..image.len() / columns).max_by(|&a, &b| sum(a).total_cmp(&sum(b))).unwrap()
}

/// A point at constant velocity: row (S - 1)/2 - f/B S/2 in units of the kept band's half width B.
#[test]
fn velocity_sets_the_row() {
    for (crop, nfft) in [(0.0, 256), (0.0, 512), (250.0, 256), (300.0, 1024)] {
        let t =
            Transform { doppler_crop: crop, nfft, size: [64, 10], hop: 32, ..Transform::default() };
        let chain = Chain::new(&t);
        let [top, bottom] = t.axes(nfft).doppler_hz.unwrap();
        for hz in [-230.0, -100.0, 3.0, 61.0, 199.0, 244.0] {
            let image = chain.images(&tone(hz / t.prf, 1000)).unwrap().remove(0);
            let row = brightest_row(&image, 10) as f64;
            let want = (top - hz) / (top - bottom) * 64.0 - 0.5;
            // Half a row, and half a bin of the transform.
            let bin = t.prf / nfft as f64 / (top - bottom) * 64.0;
            assert!((row - want).abs() <= 0.5 + bin / 2.0 + 1e-9, "{hz} Hz: {row}, {want}");
        }
        let turned = Chain::new(&Transform { flip: true, ..t.clone() });
        let image = turned.images(&tone(-0.2, 1000)).unwrap().remove(0);
        assert!(brightest_row(&image, 10) > 0 && brightest_row(&image, 10) < 32);
    }
}

/// `flip` makes of every frequency its negative, to the row, for even and odd transforms, with and
/// without a crop; of finished rows it makes the first the last.
#[test]
fn flipped_rows() {
    for (nfft, crop) in [(64, 0.0), (65, 0.0), (64, 20.0), (65, 20.0)] {
        let t = Transform { prf: nfft as f64, doppler_crop: crop, nfft, ..Transform::default() };
        let (from, to) = t.kept_rows(nfft);
        let t = Transform { window_length: 64, hop: 8, size: [to - from, 4], ..t };
        let zero = (nfft - 1) / 2 - from;
        for bin in [-19i32, -1, 0, 1, 7, 20] {
            let recording = tone(f64::from(bin) / nfft as f64, 200);
            for flip in [false, true] {
                let chain = Chain::new(&Transform { flip, ..t.clone() });
                let image = chain.images(&recording).unwrap().remove(0);
                let up = if flip { -bin } else { bin };
                let row = brightest_row(&image, 4) as i32;
                assert_eq!(row, zero as i32 - up, "{bin} of {nfft}, crop {crop}, flip {flip}");
            }
        }
    }
    let samples = [1.0, 2.0, 3.0, 4.0].map(|v| Complex::new(v, 0.0)).to_vec();
    let r = Recording { name: "rows".into(), shape: vec![4, 1], samples, complex: false };
    let t =
        Transform { input: Input::DopplerTime, size: [4, 1], flip: true, ..Transform::default() };
    let image = Chain::new(&t).images(&r).unwrap().remove(0);
    assert!(image.is_sorted_by(|a, b| a > b), "{image:?}");
}

/// A loud and a faint second: each image below its own maximum, or both below the recording's, which may
/// lie outside of the crop.
#[test]
fn scope_of_the_reference() {
    let samples = |cycles: f64, amplitude: f32| {
        let scaled = move |z: Complex<f32>| z * amplitude;
        tone(cycles, 512).samples.into_iter().map(scaled)
    };
    // A second at -20 dB, one at -40 dB; a frequency of 0.4 at 0 dB in the first is cropped away.
    let loud = samples(0.4, 1.0).zip(samples(0.0, 0.1)).map(|(a, b)| a + b);
    let all: Vec<_> = loud.chain(samples(0.0, 0.01)).collect();
    let r = Recording { name: "x".into(), shape: vec![1024], samples: all, complex: true };
    let peaks = |scope| {
        let t = Transform {
            prf: 512.0,
            window: Window::Blackman,
            segment: 1.0,
            doppler_crop: 100.0,
            clip_db: 80.0,
            reference_scope: scope,
            size: [101, 5],
            resize: Resize::Level,
            ..Transform::default()
        };
        let images = Chain::new(&t).images(&r).unwrap();
        images.iter().map(|image| image.iter().copied().fold(0.0, f32::max)).collect::<Vec<_>>()
    };
    assert_eq!(peaks(ReferenceScope::Image), [1.0, 1.0]);
    for (got, want) in peaks(ReferenceScope::Recording).iter().zip([0.75, 0.5]) {
        // The tone at 0.4 lies between two bins, and a Blackman window loses up to 1.1 dB there
        // (Harris 1978, table 1: scalloping).
        assert!((got - want).abs() <= 1.1 / 80.0, "{got} {want}");
        assert!(got > &want, "{got} {want}");
    }
}

/// A spectrogram that no memory holds is refused with a way out.
#[test]
fn spectrograms_are_bounded() {
    let t = Transform { window_length: 2, hop: 1, nfft: 1 << 20, ..Transform::default() };
    let why = Chain::new(&t).images(&tone(0.1, 1000)).unwrap_err();
    assert!(why.contains("999 frames of 1048576 bins") && why.contains("larger hop"), "{why}");
}

/// The simulator's raw signal through the preset gives the simulator's own image.
#[test]
fn presets_of_the_simulator() {
    for (preset, name) in [(Preset::Human, "human"), (Preset::Rotor, "rotor")] {
        let chain = Chain::new(&presets::preset(name).unwrap());
        let spec = SynthSpec { preset, size: 64, n: 1, seed: 11, floor_db: None, classes: None };
        for index in 0..4 {
            let (want, label) = synth::image(&spec, index).unwrap();
            let (samples, same) = synth::signal(&spec, index).unwrap();
            assert_eq!(label, same);
            let shape = vec![samples.len()];
            let recording = Recording { name: "raw".into(), shape, samples, complex: true };
            let image = chain.images(&recording).unwrap().remove(0);
            for (i, (a, b)) in image.iter().zip(&want).enumerate() {
                // The simulator computes in f32: an FFT of 256 errs by about 8 eps of the root mean
                // square of a spectrum, whose faint pixels lie up to 40 dB (1e2 in amplitude) below
                // the peak and the peak 24 dB above that mean: 8 eps * 1e2 * 16 in amplitude at
                // most, times 20 / ln 10 for dB, over 40 dB.
                let bound = 8.0 * f32::EPSILON * 1600.0 * 8.7 / 40.0;
                assert!((a - b).abs() <= bound, "{name} {index} pixel {i}: {a} {b}");
            }
        }
    }
}

#[test]
fn range_bins_are_those_of_a_transform() {
    // Two echoes: range bin 3 at Doppler +0.25, bin 5 at -0.125.
    let (fast, slow) = (16, 600);
    let mut samples = Vec::new();
    for n in 0..fast {
        for t in 0..slow {
            let echo = |bin: f64, cycles: f64| {
                Z::from_polar(1.0, TAU * (bin * n as f64 / fast as f64 + cycles * t as f64))
            };
            let z = echo(3.0, 0.25) + echo(5.0, -0.125);
            samples.push(Complex::new(z.re as f32, z.im as f32));
        }
    }
    let r = Recording { name: "x".into(), shape: vec![fast, slow], samples, complex: true };
    let base = Transform {
        input: Input::FastSlow,
        range_window: Window::Rectangular,
        size: [64, 4],
        ..Transform::default()
    };
    let row = |bins, range_sum| {
        let t = Transform { range_bins: bins, range_sum, ..base.clone() };
        brightest_row(&Chain::new(&t).images(&r).unwrap()[0], 4)
    };
    for sum in [RangeSum::Coherent, RangeSum::Power] {
        assert!((15..=16).contains(&row([3, 4], sum)));
        assert!((39..=40).contains(&row([5, 6], sum)));
    }
    // Of one bin both are the same, up to a rounding of decibels below 40 to f32.
    let image = |range_sum| {
        let t = Transform { range_bins: [5, 6], range_sum, ..base.clone() };
        Chain::new(&t).images(&r).unwrap().remove(0)
    };
    for (a, b) in image(RangeSum::Coherent).iter().zip(image(RangeSum::Power)) {
        assert!((a - b).abs() <= 4.0 * f32::EPSILON, "{a} {b}");
    }
    let whole = Chain::new(&base).images(&r).unwrap_err();
    assert!(whole.contains("range_bins is not set"), "{whole}");
    let beyond = Chain::new(&Transform { range_bins: [3, 17], ..base }).images(&r).unwrap_err();
    assert!(beyond.contains("of 16 bins"), "{beyond}");
}

#[test]
fn finished_spectrograms_and_maps() {
    let t = Transform {
        input: Input::RangeDoppler,
        frame_rate: 2.0,
        segment: 1.0,
        size: [2, 2],
        clip_db: 40.0,
        ..Transform::default()
    };
    // Four frames of three range bins by two Doppler bins, amplitudes.
    let values: Vec<f32> = vec![
        1.0, 0.0, 0.0, 1.0, 0.0, 0.0, // powers 1, 1
        2.0, 0.0, 0.0, 0.2, 0.0, 0.0, // 4, 0.04
        0.1, 1.0, 0.0, 0.0, 0.0, 0.0, // 0.01, 1
        0.0, 1.0, 0.0, 0.0, 0.0, 1.0, // 0, 2
    ];
    let samples = values.iter().map(|&v| Complex::new(v, 0.0)).collect();
    let r = Recording { name: "m".into(), shape: vec![4, 3, 2], samples, complex: false };
    let images = Chain::new(&t).images(&r).unwrap();
    let level = |p: f64| ((10.0 * p.log10() / 40.0 + 1.0).max(0.0)) as f32;
    let want = [[level(0.25), 1.0, level(0.25), level(0.01)], [level(0.005), 0.0, level(0.5), 1.0]];
    assert_eq!(images.len(), 2);
    for (image, want) in images.iter().zip(want) {
        for (a, b) in image.iter().zip(want) {
            // dB of f32 powers (up to 30) rounded to f32 once, over 40.
            assert!((a - b).abs() <= 2.0 * f32::EPSILON, "{image:?} {want:?}");
        }
    }
    let axes = t.axes(2);
    assert_eq!(axes.seconds, Some(1.0));
    assert_eq!(axes.doppler_hz, Some([250.0, -750.0]));
}

#[test]
fn presets_are_sound_and_axes_physical() {
    for name in presets::NAMES {
        let t = presets::preset(name).unwrap();
        assert_eq!(t.violation(), None, "{name}");
        let text = serde_json::to_string(&t).unwrap();
        assert_eq!(serde_json::from_str::<Transform>(&text).unwrap(), t);
    }
    // The numbers of the publications, and of the simulator's receivers.
    let numbers = [
        (
            "glasgow",
            r#"{"prf": 1000.0, "carrier": 5.8e9, "mti": "butterworth", "mti_order": 4,
            "mti_cutoff": 0.0075, "window": "hamming", "window_length": 200, "hop": 10, "nfft": 256,
            "clip_db": 40.0, "reference": 100.0, "reference_scope": "recording",
            "doppler_crop": 250.0, "segment": 5.0, "stride": 0.0, "size": [128, 128]}"#,
        ),
        (
            "ci4r",
            r#"{"prf": 3200.0, "carrier": 77e9, "mti": "pulses", "mti_taps": [1.0, -2.0, 3.0, -2.0, 1.0],
            "range_bins": [7, 8], "window_length": 256, "hop": 59, "nfft": 4096, "clip_db": 45.0,
            "reference": 100.0, "reference_scope": "recording", "doppler_crop": 500.0,
            "segment": 20.0}"#,
        ),
        (
            "fudan",
            r#"{"input": "range-doppler", "carrier": 77e9, "frame_rate": 40.0, "segment": 1.0,
            "stride": 0.5, "size": [64, 64]}"#,
        ),
        (
            "parrad",
            r#"{"input": "range-doppler", "range_sum": "power", "level": "minmax", "mti": "none",
            "segment": 3.7, "size": [128, 40]}"#,
        ),
        ("dopnet", r#"{"input": "doppler-time", "carrier": 24e9, "segment": 0.0}"#),
        (
            "human",
            r#"{"prf": 2048.0, "carrier": 24.125e9, "window": "hamming", "window_length": 256,
            "nfft": 256, "hop": 48, "reference": 99.8, "clip_db": 40.0, "resize": "power",
            "size": [64, 64]}"#,
        ),
        (
            "rotor",
            r#"{"prf": 32000.0, "carrier": 10e9, "window": "hamming", "window_length": 64, "nfft": 64,
            "hop": 32, "mti": "none", "reference": 99.8, "clip_db": 40.0, "size": [64, 64]}"#,
        ),
    ];
    for (name, wanted) in numbers {
        let found = serde_json::to_value(presets::preset(name).unwrap()).unwrap();
        let wanted: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(wanted).unwrap();
        for (key, value) in wanted {
            assert_eq!(found[&key], value, "{name}.{key}");
        }
    }
    let parrad = presets::preset("parrad").unwrap();
    assert_eq!(parrad.samples(parrad.segment), 40);
    let t = presets::preset("glasgow").unwrap();
    let axes = t.axes(t.nfft);
    // 64 bins of 1000/256 Hz either side, and half a bin beyond.
    assert_eq!(axes.doppler_hz, Some([64.5 * 3.90625, -64.5 * 3.90625]));
    // 1 + (5000 - 200) / 10 frames of 10 ms.
    assert_eq!(axes.seconds, Some(4.81));
    let speed = axes.velocity.unwrap()[0];
    assert!((speed - 64.5 * 3.90625 * 299_792_458.0 / 11.6e9).abs() < 1e-9);
    let bad = |t: Transform| t.violation().unwrap().0;
    let d = Transform::default;
    assert_eq!(bad(Transform { prf: f64::NAN, ..d() }), "prf");
    assert_eq!(bad(Transform { hop: 0, ..d() }), "hop");
    assert_eq!(bad(Transform { nfft: 255, ..d() }), "nfft");
    assert_eq!(bad(Transform { range_bins: [4, 2], ..d() }), "range_bins");
}
