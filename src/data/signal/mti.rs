//! Moving-target indication: filters over slow time that take away the echo of what stands still.

use std::f64::consts::PI;

use rustfft::num_complex::Complex;

type Z = Complex<f64>;

/// Subtracts the mean over the recording.
pub fn remove_mean(signal: &mut [Z]) {
    let mean = signal.iter().sum::<Z>() / signal.len().max(1) as f64;
    signal.iter_mut().for_each(|z| *z -= mean);
}

/// A pulse canceller: the sum of `taps[k] x[t - k]` where all of them exist, so the result is
/// `taps.len() - 1` samples shorter.
pub fn cancel(signal: &[Z], taps: &[f64]) -> Vec<Z> {
    let newest_last: Vec<f64> = taps.iter().rev().copied().collect();
    let sum = |window: &[Z]| window.iter().zip(&newest_last).map(|(z, tap)| z * tap).sum();
    signal.windows(taps.len().max(1)).map(sum).collect()
}

/// One second-order section `(b0 + b1 z^-1 + b2 z^-2) / (1 + a1 z^-1 + a2 z^-2)`.
#[derive(Debug, Clone, Copy)]
struct Section {
    b: [f64; 3],
    a: [f64; 2],
}

/// A Butterworth high-pass filter, applied forwards from rest.
#[derive(Debug, Clone)]
pub struct HighPass(Vec<Section>);

impl HighPass {
    /// `cutoff` (-3 dB) is relative to the Nyquist frequency, above 0 and below 1.
    ///
    /// The poles of the analog prototype lie on the unit circle, a pair for each quality factor
    /// `1 / (2 cos angle)`; the bilinear transform with the cutoff prewarped to `tan(pi cutoff / 2)`
    /// makes each pair a section.
    pub fn butterworth(order: usize, cutoff: f64) -> Self {
        let k = (PI * cutoff / 2.0).tan();
        let odd = order % 2;
        let mut sections: Vec<Section> = (0..order / 2)
            .map(|i| {
                let angle = PI * (2 * i + 1 + odd) as f64 / (2 * order) as f64;
                let damping = 2.0 * angle.cos() * k;
                let unit = 1.0 / (1.0 + damping + k * k);
                Section {
                    b: [unit, -2.0 * unit, unit],
                    a: [2.0 * (k * k - 1.0) * unit, (1.0 - damping + k * k) * unit],
                }
            })
            .collect();
        if odd == 1 {
            let unit = 1.0 / (1.0 + k);
            sections.push(Section { b: [unit, -unit, 0.0], a: [(k - 1.0) * unit, 0.0] });
        }
        HighPass(sections)
    }

    pub fn apply(&self, signal: &mut [Z]) {
        for Section { b, a } in &self.0 {
            // Transposed direct form II: two numbers of state.
            let mut s = [Z::default(); 2];
            for z in signal.iter_mut() {
                let x = *z;
                let y = x * b[0] + s[0];
                s[0] = x * b[1] - y * a[0] + s[1];
                s[1] = x * b[2] - y * a[1];
                *z = y;
            }
        }
    }
}
