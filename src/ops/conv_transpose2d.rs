//! 2-D transposed convolution, NHWC: the adjoint of [`super::conv2d`] with the same weights.
//!
//! The convolution that it is the adjoint of maps y to x, so its kernels do all the work with x and y
//! exchanged: forward is the data gradient of that convolution, the gradient of x its forward, and
//! the gradient of the weights its weight gradient.

use super::{Conv, bias_grad, nhwc, splits};
use crate::error::{Error, Result};
use crate::kernels::binary::{Binary, BinaryOp};
use crate::kernels::conv_shape::ConvShape;
use crate::kernels::conv2d::Conv2d;
use crate::kernels::conv2d_dgrad::Conv2dDgrad;
use crate::kernels::conv2d_wgrad::Conv2dWgrad;
use crate::kernels::sum_partials::SumPartials;
use crate::tape::{Act, Param, Tape};

/// x [n, h, w, cin], w [kh, kw, cout, cin], b [cout] -> y [n, oh, ow, cout],
/// oh = (h - 1) stride + kh - top - bottom: every pixel of x adds its window to y, and the padding is
/// cut off. PyTorch's `output_padding` is a smaller padding at the bottom and on the right.
///
/// The weights lie as those of the convolution from y to x, so nothing is moved for its kernels;
/// against PyTorch's [cin, cout, kh, kw] all four dimensions are reversed, as for [`super::conv2d`].
///
/// # Errors
/// Weights that do not fit x; a padding that leaves nothing of y.
pub fn conv_transpose2d(
    tape: &mut Tape,
    x: Act,
    w: Param,
    b: Option<Param>,
    conv: Conv,
) -> Result<Act> {
    tape.begin_op("conv_transpose2d");
    let [n, h, width, cin] = nhwc(tape, "conv_transpose2d", x)?;
    let &[kh, kw, cout, wcin] = tape.shape(w).dims() else {
        return Err(Error::failed(format!("conv_transpose2d: weights are {}", tape.shape(w))));
    };
    let Conv { stride, pad } = conv;
    let side = |of: usize, k: usize, cut: usize| ((of - 1) * stride + k).checked_sub(cut);
    let [top, bottom, left, right] = pad;
    let sides = (side(h, kh, top + bottom), side(width, kw, left + right));
    let (Some(oh @ 1..), Some(ow @ 1..), true) = (sides.0, sides.1, wcin == cin) else {
        return Err(Error::failed(format!(
            "conv_transpose2d: weights {} do not fit input {} with padding {pad:?}",
            tape.shape(w),
            tape.shape(x)
        )));
    };
    // Of the convolution from y to x.
    let shape = ConvShape { n, h: oh, w: ow, cin: cout, cout: cin, kh, kw, stride, pad };
    let mut y = tape.temp(&[n, oh, ow, cout])?;
    tape.launch(Conv2dDgrad { shape, accum: false }, &[x.into(), w.into(), y.into()])?;
    if let Some(b) = b {
        let (product, n) = (y, n * oh * ow * cout);
        y = tape.temp_like(product);
        let add = Binary { op: BinaryOp::Add, n, b_len: cout, accum: false, alpha: 1.0 };
        tape.launch(add, &[product.into(), b.into(), y.into()])?;
    }
    tape.record("conv_transpose2d", &[x.into(), w.into()], y, move |t, dy| {
        if let Some(b) = b {
            bias_grad(t, dy, b)?;
        }
        if let Some(dw) = t.param_target(w) {
            let (splits, words) = (splits(shape.pixels()), shape.w_len());
            let partials = t.temp(&[splits, words])?;
            t.launch(Conv2dWgrad { shape, splits }, &[dy.into(), x.into(), partials.into()])?;
            let finish = SumPartials { splits, n: words, accum: dw.accum };
            t.launch_into(dw, finish, &[partials.into(), dw.value.into()])?;
        }
        if !t.requires_grad(x) {
            return Ok(());
        }
        let dx = t.temp_like(x);
        t.launch(Conv2d { shape, bias: false }, &[dy.into(), w.into(), dx.into()])?;
        t.add_grad(x, dx)
    });
    Ok(y)
}
