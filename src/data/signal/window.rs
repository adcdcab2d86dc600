//! Windows of the transforms.

use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};

/// The shape of a window: a sum of cosines `a0 - a1 cos x + a2 cos 2x`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Window {
    Rectangular,
    Hann,
    #[default]
    Hamming,
    Blackman,
}

impl Window {
    /// `len` weights. Periodic windows (SciPy's default) divide the turn by `len`, symmetric ones
    /// (MATLAB's default) by `len - 1`.
    pub fn weights(self, len: usize, symmetric: bool) -> Vec<f64> {
        let [a0, a1, a2] = match self {
            Window::Rectangular => [1.0, 0.0, 0.0],
            Window::Hann => [0.5, 0.5, 0.0],
            Window::Hamming => [0.54, 0.46, 0.0],
            Window::Blackman => [0.42, 0.5, 0.08],
        };
        let turn = if symmetric { len.saturating_sub(1) } else { len }.max(1) as f64;
        let weight = |n: usize| {
            let x = TAU * n as f64 / turn;
            a0 - a1 * x.cos() + a2 * (2.0 * x).cos()
        };
        if len == 1 { vec![1.0] } else { (0..len).map(weight).collect() }
    }
}
