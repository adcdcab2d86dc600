//! The mean penalised difference of two tensors, weighted by element if wanted.

use super::{expect_elements, ids};
use crate::error::Result;
use crate::kernels::pixel_loss::{Penalty, PixelLoss, PixelLossGrad};
use crate::kernels::sum_finish::SumFinish;
use crate::tape::{Act, Tape};

/// mean w rho(a - b), a scalar; w = 1 without `weight`, which no gradient enters. Gradients flow into
/// a and b.
pub fn pixel_loss(
    tape: &mut Tape,
    a: Act,
    b: Act,
    weight: Option<Act>,
    penalty: Penalty,
) -> Result<Act> {
    tape.begin_op("pixel_loss");
    let n = tape.shape(a).elements();
    expect_elements("pixel_loss", "b", tape.shape(b), n)?;
    if let Some(weight) = weight {
        expect_elements("pixel_loss", "weight", tape.shape(weight), n)?;
    }
    let (weighted, factor) = (weight.is_some(), 1.0 / n as f32);
    let p = (n / 4096).clamp(1, 256);
    let (partials, loss) = (tape.temp(&[p])?, tape.temp(&[1])?);
    let weight = weight.map(Into::into);
    let binds = ids(&[Some(a.into()), Some(b.into()), weight, Some(partials.into())]);
    tape.launch(PixelLoss { n, penalty, weighted, partials: p }, &binds)?;
    let finish = SumFinish { p, factor, accum: false };
    tape.launch(finish, &[partials.into(), loss.into()])?;
    tape.record("pixel_loss", &[a.into(), b.into()], loss, move |t, dloss| {
        for (x, sign) in [(a, 1.0), (b, -1.0)] {
            let Some(dx) = t.target(x) else { continue };
            let factor = sign * factor;
            let kernel = PixelLossGrad { n, penalty, weighted, factor, accum: dx.accum };
            let inputs = [Some(a.into()), Some(b.into()), Some(dloss.into()), weight];
            let binds = ids(&[&inputs[..], &[Some(dx.value.into())]].concat());
            t.launch_into(dx, kernel, &binds)?;
        }
        Ok(())
    });
    Ok(loss)
}
