//! Diagonal Gaussians: noise, reparametrised draws, divergence from the standard normal.
//!
//! Moments are [.., 2c]: c means, then c log-variances, which are clamped to [-30, 20] as diffusers'
//! `DiagonalGaussianDistribution` does; beyond the clamp they get no gradient.

use super::expect_elements;
use crate::error::{Error, Result};
use crate::kernels::gaussian_kl::{GaussianKl, GaussianKlGrad};
use crate::kernels::gaussian_noise::GaussianNoise;
use crate::kernels::sample_gaussian::SampleGaussian;
use crate::kernels::sum_finish::SumFinish;
use crate::shape::Shape;
use crate::tape::{Act, Tape};

/// Independent standard normal numbers, other ones every step; `dims[0]` counts samples. A pure
/// function of seed, step, the sample's global index, the position in the sample and how many such
/// operations the tape had before, so the numbers do not depend on how a batch is cut into lanes.
///
/// # Errors
/// The shape is not possible.
pub fn gaussian_noise(tape: &mut Tape, dims: &[usize]) -> Result<Act> {
    tape.begin_op("gaussian_noise");
    let elements = Shape::new(dims)?.elements();
    let samples = dims.first().copied().unwrap_or(1);
    let earlier = tape.nodes().iter().filter(|n| n.kernel.name() == "gaussian_noise").count();
    let y = tape.temp(dims)?;
    let kernel = GaussianNoise { samples, per_sample: elements / samples, draw: earlier as u32 };
    tape.launch(kernel, &[y.into()])?;
    Ok(y)
}

/// Rows and channels c of moments.
///
/// # Errors
/// An odd number of channels.
fn moments_shape(tape: &Tape, op: &str, moments: Act) -> Result<(usize, usize)> {
    let shape = tape.shape(moments);
    if !shape.channels().is_multiple_of(2) {
        return Err(Error::failed(format!("{op}: moments are {shape}, wants [.., 2c]")));
    }
    Ok((shape.rows(), shape.channels() / 2))
}

/// moments [.., 2c], eps [.., c] -> mean + exp(logvar / 2) eps, [.., c] (Kingma and Welling 2013). The
/// gradient goes to the moments alone.
///
/// # Errors
/// Shapes that do not belong together.
pub fn sample_gaussian(tape: &mut Tape, moments: Act, eps: Act) -> Result<Act> {
    tape.begin_op("sample_gaussian");
    let (rows, c) = moments_shape(tape, "sample_gaussian", moments)?;
    expect_elements("sample_gaussian", "eps", tape.shape(eps), rows * c)?;
    let mut dims = tape.shape(moments).dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = c;
    }
    let z = tape.temp(&dims)?;
    let kernel = SampleGaussian { rows, c, backward: false, accum: false };
    tape.launch(kernel.clone(), &[moments.into(), eps.into(), z.into()])?;
    tape.record("sample_gaussian", &[moments.into()], z, move |t, dz| {
        let Some(dm) = t.target(moments) else { return Ok(()) };
        let kernel = SampleGaussian { backward: true, accum: dm.accum, ..kernel };
        t.launch_into(dm, kernel, &[moments.into(), eps.into(), dz.into(), dm.value.into()])
    });
    Ok(z)
}

/// moments [.., 2c] -> factor * sum of (mean^2 + var - 1 - logvar) / 2, a scalar: the divergence from
/// the standard normal in nats, times `factor`.
///
/// # Errors
/// An odd number of channels; a factor that is not finite.
pub fn kl_divergence(tape: &mut Tape, moments: Act, factor: f32) -> Result<Act> {
    tape.begin_op("kl_divergence");
    let (rows, c) = moments_shape(tape, "kl_divergence", moments)?;
    if !factor.is_finite() {
        return Err(Error::failed(format!("kl_divergence: the factor is {factor}")));
    }
    let partials = (rows * c / 4096).clamp(1, 256);
    let (sums, kl) = (tape.temp(&[partials])?, tape.temp(&[1])?);
    tape.launch(GaussianKl { rows, c, partials }, &[moments.into(), sums.into()])?;
    let finish = SumFinish { p: partials, factor, accum: false };
    tape.launch(finish, &[sums.into(), kl.into()])?;
    tape.record("kl_divergence", &[moments.into()], kl, move |t, dy| {
        let Some(dm) = t.target(moments) else { return Ok(()) };
        let kernel = GaussianKlGrad { rows, c, factor, accum: dm.accum };
        t.launch_into(dm, kernel, &[moments.into(), dy.into(), dm.value.into()])
    });
    Ok(kl)
}
