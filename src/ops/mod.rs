//! Differentiable operations: shape rule, forward launches, gradient launches. Free functions over a
//! tape; one file each.

mod activation;
mod add;
mod attention;
mod binary_code;
mod columns;
mod conv2d;
mod conv_transpose2d;
mod cross_entropy;
mod embedding;
mod fsq;
mod gate;
mod gaussian;
mod group_norm;
mod importance;
mod layer_norm;
mod linear;
mod mean;
mod mse;
mod mul;
mod normalise;
mod pixel_loss;
mod posterior_loss;
mod quantise;
mod rotary;
mod rotate;
mod scale_by;
mod spectral;
mod sub;
mod tokens;
mod upsample;

pub use crate::kernels::pixel_loss::Penalty;
pub use crate::kernels::unary::Activation;
pub use activation::activation;
pub use add::{add, add_repeated};
pub use attention::{attention, causal_attention};
pub use binary_code::{bit_entropy, sign_code, sign_codes};
pub use columns::{pad_columns, slice_columns};
pub use conv_transpose2d::conv_transpose2d;
pub use conv2d::{Conv, conv2d};
pub use cross_entropy::cross_entropy;
pub use embedding::{embedding, lookup, select_rows};
pub use fsq::{fsq, fsq_codes};
pub use gate::add_gated;
pub use gaussian::{gaussian_noise, kl_divergence, sample_gaussian};
pub use group_norm::group_norm;
pub use importance::{draw_steps, learn_losses, sample_losses};
pub use layer_norm::{
    layer_norm, layer_norm_affine, layer_norm_modulated, rms_norm, rms_norm_affine,
    rms_norm_modulated,
};
pub use linear::linear;
pub use mean::{hinge, mean};
pub use mse::{mse, sum_of_squared_errors};
pub use mul::mul;
pub use normalise::{normalise_rows, normalise_state};
pub use pixel_loss::pixel_loss;
pub use posterior_loss::{NOISE, Noise, posterior_loss};
pub use quantise::{
    Nearest, code_sums, ema_codebook, ema_counts, nearest_code, nearest_code_cosine,
    straight_through,
};
pub use rotary::rotary;
pub use rotate::rotate;
pub use scale_by::scale_by;
pub use spectral::{log_spectral_distance, power_pool, spectral_distance};
pub use sub::sub;
pub use tokens::{Draws, corrupt_tokens, draw_tokens, mask_tokens};
pub use upsample::upsample2x;

use crate::error::{Error, Result};
use crate::shape::Shape;
use crate::tape::{Act, Param, Tape, ValueId};

/// The four dimensions of an NHWC tensor.
fn nhwc(tape: &Tape, op: &str, x: Act) -> Result<[usize; 4]> {
    match *tape.shape(x).dims() {
        [n, h, w, c] => Ok([n, h, w, c]),
        _ => Err(Error::failed(format!("{op}: wants [n, h, w, c], got {}", tape.shape(x)))),
    }
}

/// # Errors
/// `got` has another number of elements than `want`.
fn expect_elements(op: &str, what: &str, got: Shape, want: usize) -> Result<()> {
    if got.elements() == want {
        return Ok(());
    }
    Err(Error::failed(format!("{op}: {what} is {got}, wants {want} elements")))
}

/// Rows that one partial sum of a weight or bias gradient covers, and how many partials: enough to
/// keep every core or compute unit busy, few enough that the second stage stays cheap. A function of
/// the shape alone, so that results do not depend on the device's size.
fn splits(rows: usize) -> usize {
    (rows / 512).clamp(1, 32)
}

/// Launches db += column sums of dy for a bias, unless it is frozen.
fn bias_grad(tape: &mut Tape, dy: Act, b: Param) -> Result<()> {
    use crate::kernels::col_sum::ColSum;
    use crate::kernels::sum_partials::SumPartials;
    let Some(target) = tape.param_target(b) else { return Ok(()) };
    let shape = tape.shape(dy);
    let (rows, cols, splits) = (shape.rows(), shape.channels(), splits(shape.rows()));
    let partials = tape.temp(&[splits, cols])?;
    tape.launch(ColSum { rows, cols, splits }, &[dy.into(), partials.into()])?;
    let kernel = SumPartials { splits, n: cols, accum: target.accum };
    tape.launch_into(target, kernel, &[partials.into(), target.value.into()])
}

/// The ids that are there, in order: for kernels with optional bindings.
fn ids(all: &[Option<ValueId>]) -> Vec<ValueId> {
    all.iter().flatten().copied().collect()
}
