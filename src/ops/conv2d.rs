//! 2-D convolution (cross-correlation), NHWC, weights [kh, kw, in, out].

use super::{bias_grad, ids, nhwc, splits};
use crate::error::{Error, Result};
use crate::kernels::conv_shape::ConvShape;
use crate::kernels::conv2d::Conv2d;
use crate::kernels::conv2d_dgrad::Conv2dDgrad;
use crate::kernels::conv2d_wgrad::Conv2dWgrad;
use crate::kernels::sum_partials::SumPartials;
use crate::tape::{Act, Param, Tape};

/// Stride and zero padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv {
    pub stride: usize,
    /// Top, bottom, left, right.
    pub pad: [usize; 4],
}

impl Conv {
    /// Stride 1, output as large as the input (odd kernels).
    pub fn same(kernel: usize) -> Self {
        Conv { stride: 1, pad: [kernel / 2; 4] }
    }
    /// Stride 2 with symmetric padding 1: halves even sides with kernels of 3 and of 4.
    pub fn half() -> Self {
        Conv { stride: 2, pad: [1; 4] }
    }
    /// diffusers' Downsample2D: padded right and bottom by 1, stride 2, no other padding.
    pub fn half_asymmetric() -> Self {
        Conv { stride: 2, pad: [0, 1, 0, 1] }
    }
}

/// x [n, h, w, cin], w [kh, kw, cin, cout], b [cout] -> y [n, oh, ow, cout],
/// oh = (h + top + bottom - kh) / stride + 1.
pub fn conv2d(tape: &mut Tape, x: Act, w: Param, b: Option<Param>, conv: Conv) -> Result<Act> {
    tape.begin_op("conv2d");
    let [n, h, width, cin] = nhwc(tape, "conv2d", x)?;
    let &[kh, kw, wcin, cout] = tape.shape(w).dims() else {
        return Err(Error::failed(format!("conv2d: weights are {}", tape.shape(w))));
    };
    let Conv { stride, pad } = conv;
    let fits = h + pad[0] + pad[1] >= kh && width + pad[2] + pad[3] >= kw;
    if wcin != cin || !fits {
        return Err(Error::failed(format!(
            "conv2d: weights {} do not fit input {} with padding {pad:?}",
            tape.shape(w),
            tape.shape(x)
        )));
    }
    let shape = ConvShape { n, h, w: width, cin, cout, kh, kw, stride, pad };
    let y = tape.temp(&[n, shape.oh(), shape.ow(), cout])?;
    let binds = ids(&[Some(x.into()), Some(w.into()), b.map(Into::into), Some(y.into())]);
    tape.launch(Conv2d { shape, bias: b.is_some() }, &binds)?;
    tape.record("conv2d", &[x.into(), w.into()], y, move |t, dy| {
        if let Some(b) = b {
            bias_grad(t, dy, b)?;
        }
        if let Some(dw) = t.param_target(w) {
            let splits = splits(n * shape.oh() * shape.ow());
            let words = kh * kw * cin * cout;
            let partials = t.temp(&[splits, words])?;
            t.launch(Conv2dWgrad { shape, splits }, &[x.into(), dy.into(), partials.into()])?;
            let finish = SumPartials { splits, n: words, accum: dw.accum };
            t.launch_into(dw, finish, &[partials.into(), dw.value.into()])?;
        }
        let Some(dx) = t.target(x) else { return Ok(()) };
        let kernel = Conv2dDgrad { shape, accum: dx.accum };
        t.launch_into(dx, kernel, &[dy.into(), w.into(), dx.value.into()])
    });
    Ok(y)
}
