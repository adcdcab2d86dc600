//! Attention with its projections, as all denoisers have it.

use crate::error::Result;
use crate::model::Scope;
use crate::model::layers::{Init, linear};
use crate::ops;
use crate::plan::ParamInit;
use crate::tape::Act;

/// softmax(q k' / sqrt(d)) v of x [batch, lq, width] over `context` [batch, lk, any width] -> [batch, lq,
/// width], with projections `to_q`, `to_k`, `to_v`, which have biases if `bias`, and `to_out.0`, which
/// starts as `out`. Queries and keys [.., width] go through `turn` first, under the names "q" and "k".
pub(super) fn attend(
    mut s: Scope<'_>,
    [x, context]: [Act; 2],
    heads: usize,
    bias: bool,
    out: Init,
    mut turn: impl FnMut(Scope<'_>, Act) -> Result<Act>,
) -> Result<Act> {
    let width = s.tape.shape(x).channels();
    let mut project = |name: &str, of: Act| {
        let mut s = s.at(name);
        let dims = [s.tape.shape(of).channels(), width];
        let weight = s.param("weight", &dims, ParamInit::Normal(0.02), true)?;
        let bias = match bias {
            true => Some(s.param("bias", &[width], ParamInit::Zeros, false)?),
            false => None,
        };
        ops::linear(s.tape, of, weight, bias)
    };
    let (q, k, v) = (project("to_q", x)?, project("to_k", context)?, project("to_v", context)?);
    let (q, k) = (turn(s.at("norm_q"), q)?, turn(s.at("norm_k"), k)?);
    let h = ops::attention(s.tape, q, k, v, heads)?;
    linear(s.at("to_out.0"), h, width, out)
}

/// For [`attend`]: queries and keys as they are.
pub(super) fn unturned(_: Scope<'_>, x: Act) -> Result<Act> {
    Ok(x)
}
