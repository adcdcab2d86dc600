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

    /// A search of the whole grid: there is no bounding to undo.
    fn nearest(&self, s: &mut Scope<'_>, point: Act) -> Result<(Vec<Idx>, Act)> {
        let codes = self.levels.iter().product::<usize>();
        let all = s.tape.constant_idx(&[codes], (0..codes as u32).collect())?;
        let grid = ops::fsq_codes(s.tape, all, &self.levels)?;
        let nearest = ops::nearest_code(s.tape, point, grid)?;
        Ok((vec![nearest.idx], nearest.code))
    }

    fn lookup(&self, s: &mut Scope<'_>, idx: &[Idx]) -> Result<Act> {
        ops::fsq_codes(s.tape, idx[0], &self.levels)
    }

    fn heads(&self) -> usize {
        1
    }
}
