//! Layer norm (Ba et al. 2016) and root-mean-square norm (Zhang & Sennrich 2019): plain, affine, or
//! modulated per sample (adaptive).

use super::{expect_elements, ids};
use crate::error::{Error, Result};
use crate::kernels::copy::Copy;
use crate::kernels::layer_norm::{LayerNorm, LayerNormShape, NormMode};
use crate::kernels::layer_norm_bwd::{LayerNormBwd, LayerNormBwdParams};
use crate::kernels::norm_param_grad::NormParamGrad;
use crate::tape::{Act, Param, Tape, ValueId};

/// What follows the normalisation.
#[derive(Debug, Clone, Copy)]
enum Affine {
    Plain,
    Params(Param, Param),
    Modulation(Act),
}

/// x [.., c] -> (x - mean) rstd over the last dimension.
pub fn layer_norm(tape: &mut Tape, x: Act, eps: f32) -> Result<Act> {
    emit(tape, x, eps, true, Affine::Plain)
}

/// gamma, beta [c]: gamma xhat + beta.
pub fn layer_norm_affine(
    tape: &mut Tape,
    x: Act,
    gamma: Param,
    beta: Param,
    eps: f32,
) -> Result<Act> {
    emit(tape, x, eps, true, Affine::Params(gamma, beta))
}

/// m [b, 2c] = [scale | shift] of each sample: xhat (1 + scale) + shift. x is [b, l, c].
pub fn layer_norm_modulated(tape: &mut Tape, x: Act, m: Act, eps: f32) -> Result<Act> {
    emit(tape, x, eps, true, Affine::Modulation(m))
}

/// x [.., c] -> y = gamma xhat + beta with xhat = x / sqrt(mean(x^2) + eps) over the last dimension; gamma,
/// beta [c].
pub fn rms_norm_affine(
    tape: &mut Tape,
    x: Act,
    gamma: Param,
    beta: Param,
    eps: f32,
) -> Result<Act> {
    emit(tape, x, eps, false, Affine::Params(gamma, beta))
}

/// As [`layer_norm_modulated`], with the xhat of [`rms_norm_affine`].
pub fn rms_norm_modulated(tape: &mut Tape, x: Act, m: Act, eps: f32) -> Result<Act> {
    emit(tape, x, eps, false, Affine::Modulation(m))
}

/// The root-mean-square norm by itself: x [.., c] -> xhat.
pub fn rms_norm(tape: &mut Tape, x: Act, eps: f32) -> Result<Act> {
    emit(tape, x, eps, false, Affine::Plain)
}

fn emit(tape: &mut Tape, x: Act, eps: f32, centred: bool, affine: Affine) -> Result<Act> {
    let op = if centred { "layer_norm" } else { "rms_norm" };
    tape.begin_op(op);
    let (rows, c) = (tape.shape(x).rows(), tape.shape(x).channels());
    let mode = match affine {
        Affine::Plain => NormMode::Plain,
        Affine::Params(..) => NormMode::Affine,
        Affine::Modulation(m) => {
            let samples = tape.shape(m).rows();
            if rows % samples != 0 {
                let message = format!("{op}: {samples} modulations for {rows} rows");
                return Err(Error::failed(message));
            }
            NormMode::Modulate { rows_per_sample: rows / samples }
        }
    };
    let shape = LayerNormShape { rows, c, eps, centred, mode };
    let (extra, gamma): (Vec<ValueId>, Option<ValueId>) = match affine {
        Affine::Plain => (vec![], None),
        Affine::Params(gamma, beta) => {
            expect_elements(op, "gamma", tape.shape(gamma), c)?;
            expect_elements(op, "beta", tape.shape(beta), c)?;
            (vec![gamma.into(), beta.into()], Some(gamma.into()))
        }
        Affine::Modulation(m) => {
            expect_elements(op, "m", tape.shape(m), tape.shape(m).rows() * 2 * c)?;
            (vec![m.into()], Some(m.into()))
        }
    };
    let y = tape.temp_like(x);
    let stats = tape.temp(&[rows, 2])?;
    let mut binds: Vec<ValueId> = vec![x.into()];
    binds.extend(&extra);
    binds.extend([ValueId::from(y), stats.into()]);
    tape.launch(LayerNorm { shape: shape.clone() }, &binds)?;
    let mut inputs = vec![x.into()];
    inputs.extend(&extra);
    tape.record(op, &inputs, y, move |t, dy| {
        match affine {
            Affine::Plain => {}
            Affine::Params(gamma, beta) => {
                let kernel = LayerNormBwdParams { shape: shape.clone(), accum: false };
                let splits = kernel.splits();
                let sums = t.temp(&[splits, 2, c])?;
                t.launch(kernel, &[x.into(), stats.into(), dy.into(), sums.into()])?;
                param_grads(t, sums, splits, c, gamma, beta)?;
            }
            Affine::Modulation(m) => {
                if let Some(dm) = t.target(m) {
                    let kernel = LayerNormBwdParams { shape: shape.clone(), accum: dm.accum };
                    let binds = [x.into(), stats.into(), dy.into(), dm.value.into()];
                    t.launch_into(dm, kernel, &binds)?;
                }
            }
        }
        let Some(dx) = t.target(x) else { return Ok(()) };
        let binds = ids(&[
            Some(x.into()),
            Some(stats.into()),
            gamma,
            Some(dy.into()),
            Some(dx.value.into()),
        ]);
        t.launch_into(dx, LayerNormBwd { shape, accum: dx.accum }, &binds)
    });
    Ok(y)
}

/// dgamma and dbeta from partial sums [splits, 2, c], unless both are frozen; shared with group norm.
pub(super) fn param_grads(
    tape: &mut Tape,
    sums: Act,
    splits: usize,
    c: usize,
    gamma: Param,
    beta: Param,
) -> Result<()> {
    let targets = [tape.param_target(gamma), tape.param_target(beta)];
    match targets {
        [None, None] => return Ok(()),
        [Some(dgamma), Some(dbeta)] if dgamma.accum == dbeta.accum => {
            let kernel = NormParamGrad { splits, c, accum: dgamma.accum };
            return tape.launch(kernel, &[sums.into(), dgamma.value.into(), dbeta.value.into()]);
        }
        _ => {}
    }
    // One of the two is frozen, or serves a second time, and the other is not: they are stored apart.
    let fresh = [tape.temp(&[c])?, tape.temp(&[c])?];
    let kernel = NormParamGrad { splits, c, accum: false };
    tape.launch(kernel, &[sums.into(), fresh[0].into(), fresh[1].into()])?;
    for (target, sum) in targets.into_iter().zip(fresh) {
        let Some(target) = target else { continue };
        let store = Copy { n: c, accum: target.accum };
        tape.launch_into(target, store, &[sum.into(), target.value.into()])?;
    }
    Ok(())
}
