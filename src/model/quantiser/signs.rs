//! Lookup-free quantisation (LFQ; Yu et al., 2310.05737) and binary spherical quantisation (BSQ; Zhao
//! et al., 2406.07548): a code is the signs of the latent, in BSQ of one on the unit sphere.
//!
//! Two entropies are in the loss, w (E[H(p)] - H(E[p])), p the probabilities sigma(4 tau s z) of the
//! bits, s the size of a bit: a latent should be sure of its code, and all codes should be used.

use super::{Quantised, Quantiser, of_head};
use crate::error::Result;
use crate::model::Scope;
use crate::model::losses::Term;
use crate::ops;
use crate::tape::{Act, Idx};

#[derive(Debug, Clone)]
pub struct Signs {
    pub head: usize,
    /// Bits.
    pub d: usize,
    /// BSQ: latents and codes are of length 1.
    pub sphere: bool,
    /// tau.
    pub inverse_temperature: f32,
    pub entropy_weight: f32,
    /// Bits whose joint entropy is taken.
    pub entropy_bits: usize,
    pub beta: f32,
}

impl Signs {
    /// The value of a bit, up to its sign.
    fn scale(&self) -> f32 {
        if self.sphere { 1.0 / (self.d as f32).sqrt() } else { 1.0 }
    }

    fn seen(&self, s: &mut Scope<'_>, z: Act) -> Result<Act> {
        match self.sphere {
            true => ops::normalise_rows(s.tape, z),
            false => Ok(z),
        }
    }
}

impl Quantiser for Signs {
    fn training(&self, s: &mut Scope<'_>, z: Act) -> Result<Quantised> {
        let seen = self.seen(s, z)?;
        let (code, idx) = ops::sign_code(s.tape, seen, self.scale())?;
        let fixed = s.tape.detach(code);
        let commitment = ops::mse(s.tape, seen, fixed)?;
        let mut terms = vec![Term::new(of_head("commitment", self.head), commitment, self.beta)];
        if self.entropy_weight > 0.0 {
            let slope = 4.0 * self.inverse_temperature * self.scale();
            let group = self.entropy_bits.min(self.d);
            let (each, all) = ops::bit_entropy(s.tape, seen, slope, group)?;
            let w = self.entropy_weight;
            terms.push(Term::new(of_head("entropy", self.head), each, w));
            terms.push(Term::new(of_head("diversity", self.head), all, -w));
        }
        Ok(Quantised { code, idx: vec![idx], terms, searches: vec![] })
    }

    fn quantise(&self, s: &mut Scope<'_>, z: Act) -> Result<(Vec<Idx>, Act)> {
        // The signs of a latent are those of its direction.
        let (code, idx) = ops::sign_code(s.tape, z, self.scale())?;
        Ok((vec![idx], code))
    }

    fn lookup(&self, s: &mut Scope<'_>, idx: &[Idx]) -> Result<Act> {
        ops::sign_codes(s.tape, idx[0], self.d, self.scale())
    }

    fn heads(&self) -> usize {
        1
    }
}
