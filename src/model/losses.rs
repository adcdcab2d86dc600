//! Terms of the loss of an autoencoder.

use super::Scope;
use crate::error::Result;
use crate::ops;
use crate::tape::Act;

/// One summand of the loss.
#[derive(Debug, Clone)]
pub struct Term {
    pub name: String,
    /// A scalar.
    pub value: Act,
    pub weight: f32,
}

impl Term {
    pub fn new(name: impl Into<String>, value: Act, weight: f32) -> Self {
        Term { name: name.into(), value, weight }
    }
}

/// How far `image` is from `x`, both [n, h, w, c], about in [-1, 1].
pub fn reconstruction(s: &mut Scope<'_>, image: Act, x: Act) -> Result<Vec<Term>> {
    let mse = ops::mse(s.tape, image, x)?;
    Ok(vec![Term::new("reconstruction", mse, 1.0)])
}
