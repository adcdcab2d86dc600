//! Distances of spectrograms, images linear in dB: rows are frequencies, columns time frames.

use super::mse::sum;
use super::{expect_elements, nhwc};
use crate::error::{Error, Result};
use crate::kernels::frame_rms::{FrameRms, FrameRmsGrad};
use crate::kernels::power_pool::{PowerPool, PowerPoolBwd};
use crate::kernels::spectral_distance::{SpectralDistance, SpectralDistanceBwd};
use crate::kernels::sum_all::SumOp;
use crate::tape::{Act, Tape};

/// The log-spectral distance (Gray & Markel 1976) of images a and b [n, h, w, c], a scalar in dB: the
/// mean over samples, frames and channels of sqrt(mean over rows of (decibels (a - b))^2 + eps).
///
/// `decibels` is what a unit of the images spans; `eps`, in dB^2 and above 0, gives equal frames a
/// gradient. Gradients flow into a and b.
pub fn log_spectral_distance(
    tape: &mut Tape,
    a: Act,
    b: Act,
    decibels: f32,
    eps: f32,
) -> Result<Act> {
    const OP: &str = "log_spectral_distance";
    tape.begin_op(OP);
    let [n, h, w, c] = nhwc(tape, OP, a)?;
    expect_elements(OP, "b", tape.shape(b), n * h * w * c)?;
    let (row, scale) = (w * c, decibels);
    let rms = tape.temp(&[n, w, c])?;
    let binds = [a.into(), b.into(), rms.into()];
    tape.launch(FrameRms { n, h, row, scale, eps }, &binds)?;
    let factor = 1.0 / (n * row) as f32;
    let loss = sum(tape, SumOp::Identity, rms, None, factor)?;
    tape.record(OP, &[a.into(), b.into()], loss, move |t, dloss| {
        for (x, sign) in [(a, 1.0), (b, -1.0)] {
            let Some(dx) = t.target(x) else { continue };
            let kernel = FrameRmsGrad { n, h, row, scale, factor: sign * factor, accum: dx.accum };
            let binds = [a.into(), b.into(), rms.into(), dloss.into(), dx.value.into()];
            t.launch_into(dx, kernel, &binds)?;
        }
        Ok(())
    });
    Ok(loss)
}

/// x [n, h, w, c], linear in dB with 0 dB at 1 -> magnitudes [n, h/r, w/r, c], the square roots of the
/// mean powers of blocks of r x r pixels. `decibels` is what a unit of x spans, at most 100. Pixels
/// beyond [-2, 2] count as their limit and have no gradient.
///
/// # Errors
/// r does not divide both sides.
pub fn power_pool(tape: &mut Tape, x: Act, r: usize, decibels: f32) -> Result<Act> {
    tape.begin_op("power_pool");
    let [n, h, w, c] = nhwc(tape, "power_pool", x)?;
    if r == 0 || !(h.is_multiple_of(r) && w.is_multiple_of(r)) {
        return Err(Error::usage(format!("images of {h} x {w} cannot be pooled {r} x {r}"))
            .at("loss.resolutions")
            .why("blocks of pixels would be cut off at the edges")
            .help("use divisors of both sides of the images, such as powers of 2"));
    }
    let k = (f64::from(decibels) * std::f64::consts::LN_10 / 20.0) as f32;
    let pool = PowerPool { n, h: h / r, w: w / r, c, r, k };
    let y = tape.temp(&[n, h / r, w / r, c])?;
    tape.launch(pool.clone(), &[x.into(), y.into()])?;
    tape.record("power_pool", &[x.into()], y, move |t, dy| {
        let Some(dx) = t.target(x) else { return Ok(()) };
        let kernel = PowerPoolBwd { pool, accum: dx.accum };
        t.launch_into(dx, kernel, &[x.into(), y.into(), dy.into(), dx.value.into()])
    });
    Ok(y)
}

/// Magnitudes y against a target t, both positive and [n, ..]: the mean over samples of
/// sqrt(|t - y|^2 / |t|^2 + eps) + mean |ln y - ln t| (Yamamoto, Song & Kim 2020, 1910.11480; norms of
/// Frobenius). `eps` is above 0. The target is fixed: no gradient enters it.
pub fn spectral_distance(tape: &mut Tape, y: Act, t: Act, eps: f32) -> Result<Act> {
    const OP: &str = "spectral_distance";
    tape.begin_op(OP);
    let shape = tape.shape(y);
    let n = shape.dims()[0];
    let m = shape.elements() / n;
    expect_elements(OP, "the target", tape.shape(t), n * m)?;
    let (each, parts) = (tape.temp(&[n])?, tape.temp(&[n, 2])?);
    let binds = [y.into(), t.into(), each.into(), parts.into()];
    tape.launch(SpectralDistance { n, m, eps }, &binds)?;
    let factor = 1.0 / n as f32;
    let loss = sum(tape, SumOp::Identity, each, None, factor)?;
    tape.record(OP, &[y.into()], loss, move |tape, dloss| {
        let Some(dy) = tape.target(y) else { return Ok(()) };
        let kernel = SpectralDistanceBwd { n, m, factor, accum: dy.accum };
        let binds = [y.into(), t.into(), parts.into(), dloss.into(), dy.value.into()];
        tape.launch_into(dy, kernel, &binds)
    });
    Ok(loss)
}
