//! Residual vector quantisation (Zeghidour et al., 2107.03312): every level quantises what the levels
//! before it left over; the code is their sum.
//!
//! r_0 = z; q_l = Q_l(r_{l-1}); r_l = r_{l-1} - sg(q_l); one commitment loss a level, and one estimator
//! over the sum.

use super::{Quantised, Quantiser, estimate, of_head};
use crate::config::Estimator;
use crate::error::Result;
use crate::model::Scope;
use crate::ops;
use crate::tape::{Act, Idx};

/// Inputs, 1 or 0, that keep or drop the code of a level: `level.1`, `level.2`, ...
pub const LEVEL: &str = "level";

#[derive(Debug)]
pub struct Residual {
    /// Number of the first head.
    pub first: usize,
    pub levels: Vec<Box<dyn Quantiser>>,
    pub estimator: Estimator,
    /// Does training drop levels from the last on? They go on learning.
    pub dropout: bool,
}

impl Quantiser for Residual {
    fn training(&self, s: &mut Scope<'_>, z: Act) -> Result<Quantised> {
        let (mut idx, mut terms, mut searches) = (vec![], vec![], vec![]);
        let (mut rest, mut sum): (Act, Option<Act>) = (z, None);
        for (l, level) in self.levels.iter().enumerate() {
            let mut one = level.training(s, rest)?;
            let code = s.tape.detach(one.code);
            idx.append(&mut one.idx);
            terms.append(&mut one.terms);
            searches.append(&mut one.searches);
            if l + 1 < self.levels.len() {
                rest = ops::sub(s.tape, rest, code)?;
            }
            let kept = match self.dropout && l > 0 {
                true => {
                    let keep = s.tape.input(&of_head(LEVEL, self.first + l), &[1])?;
                    ops::scale_by(s.tape, code, keep)?
                }
                false => code,
            };
            sum = Some(match sum {
                Some(sum) => ops::add(s.tape, sum, kept)?,
                None => kept,
            });
        }
        let code = estimate(s, self.estimator, z, sum.unwrap_or(z))?;
        Ok(Quantised { code, idx, terms, searches })
    }

    fn quantise(&self, s: &mut Scope<'_>, z: Act) -> Result<(Vec<Idx>, Act)> {
        let (mut idx, mut rest, mut sum): (_, Act, Option<Act>) = (vec![], z, None);
        for (l, level) in self.levels.iter().enumerate() {
            let (mut own, code) = level.quantise(s, rest)?;
            idx.append(&mut own);
            if l + 1 < self.levels.len() {
                rest = ops::sub(s.tape, rest, code)?;
            }
            sum = Some(match sum {
                Some(sum) => ops::add(s.tape, sum, code)?,
                None => code,
            });
        }
        Ok((idx, sum.unwrap_or(z)))
    }

    fn lookup(&self, s: &mut Scope<'_>, idx: &[Idx]) -> Result<Act> {
        let mut sum = self.levels[0].lookup(s, &idx[..1])?;
        for (level, own) in self.levels.iter().zip(idx.chunks(1)).skip(1) {
            let code = level.lookup(s, own)?;
            sum = ops::add(s.tape, sum, code)?;
        }
        Ok(sum)
    }

    fn heads(&self) -> usize {
        self.levels.len()
    }
}
