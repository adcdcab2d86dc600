//! Multi-codebook quantisation: the channels of a latent are cut into equal parts, each with a
//! quantiser of its own.

use super::{Quantised, Quantiser};
use crate::error::Result;
use crate::model::Scope;
use crate::ops;
use crate::tape::{Act, Idx};

#[derive(Debug)]
pub struct Groups {
    /// Channels of a part.
    pub width: usize,
    pub parts: Vec<Box<dyn Quantiser>>,
}

impl Groups {
    /// Puts what the parts made side by side.
    fn join(&self, s: &mut Scope<'_>, parts: &[Act]) -> Result<Act> {
        let width = self.width * self.parts.len();
        let mut joined = ops::pad_columns(s.tape, parts[0], 0, width)?;
        for (g, &part) in parts.iter().enumerate().skip(1) {
            let padded = ops::pad_columns(s.tape, part, g * self.width, width)?;
            joined = ops::add(s.tape, joined, padded)?;
        }
        Ok(joined)
    }

    fn slice(&self, s: &mut Scope<'_>, z: Act, part: usize) -> Result<Act> {
        ops::slice_columns(s.tape, z, part * self.width, self.width)
    }

    /// What `search` finds for every part.
    fn each(
        &self,
        s: &mut Scope<'_>,
        z: Act,
        search: impl Fn(&dyn Quantiser, &mut Scope<'_>, Act) -> Result<(Vec<Idx>, Act)>,
    ) -> Result<(Vec<Idx>, Act)> {
        let (mut idx, mut codes) = (vec![], vec![]);
        for (g, part) in self.parts.iter().enumerate() {
            let slice = self.slice(s, z, g)?;
            let (mut own, code) = search(&**part, s, slice)?;
            codes.push(code);
            idx.append(&mut own);
        }
        Ok((idx, self.join(s, &codes)?))
    }
}

impl Quantiser for Groups {
    /// The terms of the parts are means over their channels: each counts by its share of them.
    fn training(&self, s: &mut Scope<'_>, z: Act) -> Result<Quantised> {
        let (mut idx, mut codes, mut terms, mut searches) = (vec![], vec![], vec![], vec![]);
        for (g, part) in self.parts.iter().enumerate() {
            let slice = self.slice(s, z, g)?;
            let mut one = part.training(s, slice)?;
            one.terms.iter_mut().for_each(|t| t.weight /= self.parts.len() as f32);
            codes.push(one.code);
            idx.append(&mut one.idx);
            terms.append(&mut one.terms);
            searches.append(&mut one.searches);
        }
        Ok(Quantised { code: self.join(s, &codes)?, idx, terms, searches })
    }

    fn quantise(&self, s: &mut Scope<'_>, z: Act) -> Result<(Vec<Idx>, Act)> {
        self.each(s, z, |part, s, slice| part.quantise(s, slice))
    }

    fn nearest(&self, s: &mut Scope<'_>, point: Act) -> Result<(Vec<Idx>, Act)> {
        self.each(s, point, |part, s, slice| part.nearest(s, slice))
    }

    fn lookup(&self, s: &mut Scope<'_>, idx: &[Idx]) -> Result<Act> {
        let (mut codes, mut rest) = (vec![], idx);
        for part in &self.parts {
            let (own, others) = rest.split_at(part.heads());
            codes.push(part.lookup(s, own)?);
            rest = others;
        }
        self.join(s, &codes)
    }

    fn heads(&self) -> usize {
        self.parts.iter().map(|p| p.heads()).sum()
    }
}
