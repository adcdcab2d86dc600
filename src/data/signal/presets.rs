//! The chains of published data sets and of this project's simulator, by name.
//!
//! What a publication leaves open is said beside the preset; any key can be overridden.

use super::transform::{Input, Level, Mti, RangeSum, ReferenceScope, Resize, Transform};
use super::window::Window;

/// Names of all presets.
pub const NAMES: [&str; 8] =
    ["plain", "glasgow", "ci4r", "fudan", "parrad", "dopnet", "human", "rotor"];

/// The transform of a name.
pub fn preset(name: &str) -> Option<Transform> {
    let base = Transform::default();
    Some(match name {
        // The defaults: 256 samples of a Hamming window, 75 % overlap, 40 dB.
        "plain" => base,
        // Glasgow's activities, 5.8 GHz: 0.2 s windows with 95 % overlap, 5 s segments, +-250 Hz.
        // Decibels are below the maximum of the whole recording. The range bins of 1.5 to 10 m depend
        // on the sweep: set range_bins.
        "glasgow" => Transform {
            input: Input::FastSlow,
            prf: 1000.0,
            carrier: 5.8e9,
            mti: Mti::Butterworth,
            mti_order: 4,
            mti_cutoff: 0.0075,
            window_length: 200,
            hop: 10,
            nfft: 256,
            doppler_crop: 250.0,
            segment: 5.0,
            reference_scope: ReferenceScope::Recording,
            resize: Resize::Level,
            size: [128, 128],
            ..base
        },
        // CI4R, 77 GHz: 256 samples x 128 pulses in 40 ms, range bin 8 counted from 1; colours are of
        // 45 dB below the maximum, which is taken before the crop.
        "ci4r" => Transform {
            input: Input::FastSlow,
            prf: 3200.0,
            carrier: 77e9,
            range_window: Window::Rectangular,
            range_bins: [7, 8],
            mti: Mti::Pulses,
            mti_taps: vec![1.0, -2.0, 3.0, -2.0, 1.0],
            window: Window::Hann,
            window_length: 256,
            hop: 59,
            nfft: 4096,
            doppler_crop: 500.0,
            segment: 20.0,
            reference_scope: ReferenceScope::Recording,
            clip_db: 45.0,
            resize: Resize::Level,
            size: [128, 128],
            ..base
        },
        // Fudan's gestures, 77 GHz: Doppler-time images of 40 frames (1 s) of range-Doppler maps, of
        // windows that slide. How far is left open: half a window here.
        "fudan" => Transform {
            input: Input::RangeDoppler,
            prf: 0.0,
            carrier: 77e9,
            frame_rate: 40.0,
            range_sum: RangeSum::Power,
            segment: 1.0,
            stride: 0.5,
            size: [64, 64],
            ..base
        },
        // PARRad: range-Doppler maps summed over range, 40 frames of 3.7 s, the DC line left in.
        "parrad" => Transform {
            input: Input::RangeDoppler,
            prf: 0.0,
            carrier: 77e9,
            frame_rate: 40.0 / 3.7,
            range_sum: RangeSum::Power,
            segment: 3.7,
            level: Level::Minmax,
            resize: Resize::Level,
            size: [128, 40],
            ..base
        },
        // Dop-NET, 24 GHz: finished complex Doppler-time matrices of any length, one image each.
        "dopnet" => Transform {
            input: Input::DopplerTime,
            prf: 1000.0,
            carrier: 24e9,
            resize: Resize::Level,
            size: [64, 64],
            ..base
        },
        // The simulator's receivers at 64 x 64; at another size the hop is 3072 / size.
        "human" => Transform {
            prf: 2048.0,
            carrier: 24.125e9,
            window_length: 256,
            hop: 48,
            nfft: 256,
            reference: 99.8,
            ..base
        },
        // At another size the hop is 2048 / size, and at 128 the window is 128 samples.
        "rotor" => Transform {
            prf: 32_000.0,
            carrier: 10e9,
            window_length: 64,
            hop: 32,
            nfft: 64,
            reference: 99.8,
            ..base
        },
        _ => return None,
    })
}
