//! Gaussian diffusion of continuous latents: variance preserving, in continuous time.
//!
//! x_t = alpha x + sigma eps with alpha = cos(pi t / 2), sigma = sin(pi t / 2), t in [0, 1]. The network
//! predicts the velocity v = alpha eps - sigma x (Salimans & Ho, 2202.00512), of which (x_t, v) is (x, eps)
//! turned by the angle pi t / 2; so x = alpha x_t - sigma v and eps = sigma x_t + alpha v, with no division
//! at either end of time.

mod sampler;
#[cfg(test)]
mod tests;

pub use sampler::{Run, VelocityModel};

use std::f64::consts::FRAC_PI_2;

/// What is left of x at time t.
pub fn alpha(t: f64) -> f64 {
    (FRAC_PI_2 * t).cos()
}

/// Standard deviation of the noise at time t.
pub fn sigma(t: f64) -> f64 {
    (FRAC_PI_2 * t).sin()
}

/// Weight of |v - v^|^2 at time t by the min-SNR rule (Hang et al., 2303.09556): min(snr, gamma) /
/// (snr + 1), snr = alpha^2 / sigma^2. The plain loss is the squared error of x weighed by snr + 1.
pub fn min_snr_weight(t: f64, gamma: f64) -> f64 {
    // Over snr + 1 = 1 / sigma^2.
    alpha(t).powi(2).min(gamma * sigma(t).powi(2))
}

/// A step back from time t to s < t: x_s = `state` x_t + `velocity` v + `noise` z, z standard normal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    pub state: f64,
    pub velocity: f64,
    pub noise: f64,
}

impl Step {
    /// DDIM (Song et al., 2010.02502, equations 12 and 16), with x and eps from the network:
    /// x_s = alpha_s x + sqrt(sigma_s^2 - tau^2) eps + tau z, where
    /// tau = eta (sigma_s / sigma_t) sqrt(1 - alpha_t^2 / alpha_s^2). With eta = 0 no noise is added; with
    /// eta = 1 it is the posterior q(x_s | x_t, x), that is, DDPM's ancestral step (2006.11239).
    pub fn between(s: f64, t: f64, eta: f64) -> Self {
        let ([alpha_s, sigma_s], [alpha_t, sigma_t]) = ([alpha(s), sigma(s)], [alpha(t), sigma(t)]);
        let renewed = (1.0 - (alpha_t / alpha_s).powi(2)).max(0.0).sqrt();
        let noise = eta * sigma_s / sigma_t * renewed;
        let kept = (sigma_s.powi(2) - noise.powi(2)).max(0.0).sqrt();
        Step {
            state: alpha_s * alpha_t + kept * sigma_t,
            velocity: kept * alpha_t - alpha_s * sigma_t,
            noise,
        }
    }
}
