//! A tape whose values have several consumers in every order.

use vqforge::error::Result;
use vqforge::model::Scope;
use vqforge::ops::{self, Activation};
use vqforge::plan::{ParamInit, ParamTable};
use vqforge::tape::Tape;

/// Width of the tangle: not a multiple of 4.
pub const TANGLE: usize = 6;

pub fn tangle(tape: &mut Tape, table: &mut ParamTable, batch: usize) -> Result<()> {
    let mut s = Scope::new(tape, table);
    let w = s.param("w", &[TANGLE, TANGLE], ParamInit::Normal(0.5), true)?;
    let bias = s.param("b", &[TANGLE], ParamInit::Normal(0.5), false)?;
    let gamma = s.param("gamma", &[TANGLE], ParamInit::Normal(1.0), false)?;
    let beta = s.param("beta", &[TANGLE], ParamInit::Normal(1.0), false)?;
    let x = tape.input("x", &[batch, TANGLE])?;
    let h = ops::linear(tape, x, w, Some(bias))?;
    let a = ops::activation(tape, h, Activation::Silu)?;
    let b = ops::activation(tape, h, Activation::GeluTanh)?;
    // d(a) starts as the gradient of `sum`, which d(b) still needs when this adds to it.
    let side = ops::activation(tape, a, Activation::GeluSigmoid)?;
    let sum = ops::add(tape, a, b)?;
    let twice = ops::add(tape, sum, sum)?;
    let again = ops::linear(tape, twice, w, Some(bias))?;
    let normed = ops::layer_norm_affine(tape, again, gamma, beta, 1e-3)?;
    let normed = ops::layer_norm_affine(tape, normed, gamma, beta, 1e-3)?;
    let end = ops::add(tape, normed, h)?;
    let fixed = tape.detach(side);
    let first = ops::mse(tape, end, fixed)?;
    let second = ops::mse(tape, side, x)?;
    tape.report("first", first)?;
    tape.report("second", second)?;
    tape.output("end", end)?;
    tape.backward(&[(first, 1.0), (second, 0.7)])
}
