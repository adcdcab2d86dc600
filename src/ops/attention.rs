//! Softmax attention, self or cross (Vaswani et al. 2017), with flash-style kernels: the score matrix
//! never reaches memory (Dao et al. 2022).

use super::expect_elements;
use crate::error::{Error, Result};
use crate::kernels::attention::{Attention, AttentionShape};
use crate::kernels::attention_bwd::{AttentionBwdKv, AttentionBwdQ, AttentionDelta};
use crate::tape::{Act, Tape};

/// q [b, lq, heads*d], k and v [b, lk, heads*d] -> softmax(q k' / sqrt(d)) v, [b, lq, heads*d].
pub fn attention(tape: &mut Tape, q: Act, k: Act, v: Act, heads: usize) -> Result<Act> {
    let (shape, y, lse) = forward(tape, q, k, v, heads, false)?;
    let AttentionShape { batch, heads, lq, .. } = shape;
    tape.record("attention", &[q.into(), k.into(), v.into()], y, move |t, dy| {
        let delta = t.temp(&[batch, heads, lq])?;
        t.launch(AttentionDelta { shape: shape.clone() }, &[y.into(), dy.into(), delta.into()])?;
        let (dk, dv) = (t.temp_like(k), t.temp_like(v));
        let inputs = [q.into(), k.into(), v.into(), dy.into(), lse.into(), delta.into()];
        if t.requires_grad(k) || t.requires_grad(v) {
            let [a, b, c, d, e, f] = inputs;
            t.launch(
                AttentionBwdKv { shape: shape.clone() },
                &[a, b, c, d, e, f, dk.into(), dv.into()],
            )?;
            t.add_grad(k, dk)?;
            t.add_grad(v, dv)?;
        }
        if t.requires_grad(q) {
            let dq = t.temp_like(q);
            let [a, b, c, d, e, f] = inputs;
            t.launch(AttentionBwdQ { shape }, &[a, b, c, d, e, f, dq.into()])?;
            t.add_grad(q, dq)?;
        }
        Ok(())
    });
    Ok(y)
}

/// As [`attention`], of a sequence with itself, each token with those up to its own place. Not
/// differentiated: for encoders that are not trained.
///
/// # Errors
/// A gradient is asked for.
pub fn causal_attention(tape: &mut Tape, q: Act, k: Act, v: Act, heads: usize) -> Result<Act> {
    if [q, k, v].into_iter().any(|x| tape.requires_grad(x)) {
        return Err(Error::failed("causal attention has no gradient: freeze what it is made of"));
    }
    Ok(forward(tape, q, k, v, heads, true)?.1)
}

/// The shape, y and lse.
fn forward(
    tape: &mut Tape,
    q: Act,
    k: Act,
    v: Act,
    heads: usize,
    causal: bool,
) -> Result<(AttentionShape, Act, Act)> {
    tape.begin_op("attention");
    let ([batch, lq, width], [_, lk, _]) = (dims3(tape, q)?, dims3(tape, k)?);
    expect_elements("attention", "k", tape.shape(k), batch * lk * width)?;
    expect_elements("attention", "v", tape.shape(v), batch * lk * width)?;
    if width % heads != 0 {
        return Err(Error::failed(format!("attention: {heads} heads do not divide width {width}")));
    }
    let d = width / heads;
    let shape = AttentionShape { batch, heads, lq, lk, d, scale: 1.0 / (d as f32).sqrt() };
    let y = tape.temp_like(q);
    let lse = tape.temp(&[batch, heads, lq])?;
    tape.launch(
        Attention { shape: shape.clone(), causal },
        &[q.into(), k.into(), v.into(), y.into(), lse.into()],
    )?;
    Ok((shape, y, lse))
}

fn dims3(tape: &Tape, x: Act) -> Result<[usize; 3]> {
    match *tape.shape(x).dims() {
        [b, l, c] => Ok([b, l, c]),
        _ => Err(Error::failed(format!("attention: wants [b, l, c], got {}", tape.shape(x)))),
    }
}
