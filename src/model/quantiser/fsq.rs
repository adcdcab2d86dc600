//! Finite scalar quantisation (Mentzer et al., 2309.15505): every channel is bounded and rounded to
//! one of a few levels. Nothing is learned and nothing can collapse.

use super::{Quantised, Quantiser};
use crate::error::Result;
use crate::model::Scope;
use crate::ops;
use crate::tape::{Act, Idx};

#[derive(Debug, Clone)]
pub struct Fsq {
    /// Of each channel, the first counting fastest in an index.
    pub levels: Vec<usize>,
}

impl Quantiser for Fsq {
    fn training(&self, s: &mut Scope<'_>, z: Act) -> Result<Quantised> {
        let (code, idx) = ops::fsq(s.tape, z, &self.levels)?;
        Ok(Quantised { code, idx: vec![idx], terms: vec![], searches: vec![] })
    }

    fn quantise(&self, s: &mut Scope<'_>, z: Act) -> Result<(Vec<Idx>, Act)> {
        let (code, idx) = ops::fsq(s.tape, z, &self.levels)?;
        Ok((vec![idx], code))
    }

    fn lookup(&self, s: &mut Scope<'_>, idx: &[Idx]) -> Result<Act> {
        ops::fsq_codes(s.tape, idx[0], &self.levels)
    }

    fn heads(&self) -> usize {
        1
    }
}
