//! Linear layer: y = act(x w + b), weights [in, out].

use super::{bias_grad, ids, splits};
use crate::error::{Error, Result};
use crate::kernels::conv_shape::ConvShape;
use crate::kernels::conv2d_wgrad::Conv2dWgrad;
use crate::kernels::matmul::Matmul;
use crate::kernels::sum_partials::SumPartials;
use crate::tape::{Act, Param, Tape};

/// x [.., in], w [in, out], b [out] -> y [.., out].
pub fn linear(tape: &mut Tape, x: Act, w: Param, b: Option<Param>) -> Result<Act> {
    tape.begin_op("linear");
    let (xs, ws) = (tape.shape(x), tape.shape(w));
    let (rows, k, n) = (xs.rows(), xs.channels(), ws.channels());
    if ws.rows() != k {
        return Err(Error::failed(format!("linear: weights {ws} do not fit input {xs}")));
    }
    let mut dims = xs.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = n;
    }
    let y = tape.temp(&dims)?;
    let product = Matmul {
        batch: 1,
        m: rows,
        k,
        n,
        ta: false,
        tb: false,
        batched_b: false,
        bias: b.is_some(),
        act: None,
        accum: false,
    };
    let binds = ids(&[Some(x.into()), Some(w.into()), b.map(Into::into), Some(y.into())]);
    tape.launch(product.clone(), &binds)?;
    tape.record("linear", &[x.into(), w.into()], y, move |t, dy| {
        if let Some(b) = b {
            bias_grad(t, dy, b)?;
        }
        // x' dy is a 1x1 convolution's weight gradient over `rows` pixels.
        let shape = ConvShape {
            n: rows,
            h: 1,
            w: 1,
            cin: k,
            cout: n,
            kh: 1,
            kw: 1,
            stride: 1,
            pad: [0; 4],
        };
        if let Some(dw) = t.param_target(w) {
            let splits = splits(rows);
            let partials = t.temp(&[splits, k * n])?;
            t.launch(Conv2dWgrad { shape, splits }, &[x.into(), dy.into(), partials.into()])?;
            let finish = SumPartials { splits, n: k * n, accum: dw.accum };
            t.launch_into(dw, finish, &[partials.into(), dw.value.into()])?;
        }
        let Some(dx) = t.target(x) else { return Ok(()) };
        let kernel = Matmul { k: n, n: k, tb: true, bias: false, accum: dx.accum, ..product };
        t.launch_into(dx, kernel, &[dy.into(), w.into(), dx.value.into()])
    });
    Ok(y)
}
