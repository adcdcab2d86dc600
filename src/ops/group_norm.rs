//! Group normalisation (Wu & He 2018), with SiLU fused behind it.

use super::nhwc;
use crate::error::{Error, Result};
use crate::kernels::group_norm::{GroupNorm, GroupNormShape};
use crate::kernels::group_norm_bwd::GroupNormBwd;
use crate::kernels::group_norm_bwd_sums::GroupNormBwdSums;
use crate::kernels::group_norm_stats::GroupNormStats;
use crate::tape::{Act, Param, Tape};

/// x [n, h, w, c], gamma and beta [c] -> gamma (x - mean) rstd + beta, with mean and (biased)
/// variance over each of `groups` channel groups of a sample; then SiLU if `silu`.
pub fn group_norm(
    tape: &mut Tape,
    x: Act,
    gamma: Param,
    beta: Param,
    groups: usize,
    eps: f32,
    silu: bool,
) -> Result<Act> {
    tape.begin_op("group_norm");
    let [n, h, w, c] = nhwc(tape, "group_norm", x)?;
    if groups == 0 || c % groups != 0 {
        return Err(Error::failed(format!(
            "group_norm: {groups} groups do not divide {c} channels"
        ))
        .help("choose norm_num_groups so that it divides every block_out_channels"));
    }
    let shape = GroupNormShape { n, hw: h * w, c, groups, eps, silu };
    let stats = tape.temp(&[n, groups, 2])?;
    let y = tape.temp_like(x);
    tape.launch(GroupNormStats { shape: shape.clone() }, &[x.into(), stats.into()])?;
    let binds = [x.into(), stats.into(), gamma.into(), beta.into(), y.into()];
    tape.launch(GroupNorm { shape: shape.clone() }, &binds)?;
    tape.record("group_norm", &[x.into(), gamma.into(), beta.into()], y, move |t, dy| {
        let sums = t.temp(&[n, 2, c])?;
        let [x_, stats, gamma_, beta_] = [x.into(), stats.into(), gamma.into(), beta.into()];
        t.launch(
            GroupNormBwdSums { shape: shape.clone() },
            &[x_, stats, gamma_, beta_, dy.into(), sums.into()],
        )?;
        super::layer_norm::param_grads(t, sums, n, c, gamma, beta)?;
        let Some(dx) = t.target(x) else { return Ok(()) };
        let kernel = GroupNormBwd { shape, accum: dx.accum };
        let binds = [x_, stats, gamma_, beta_, dy.into(), sums.into(), dx.value.into()];
        t.launch_into(dx, kernel, &binds)
    });
    Ok(y)
}
