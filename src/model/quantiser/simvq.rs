//! SimVQ (Zhu et al., 2411.02038): codes are a frozen random table C times one trained matrix W, so
//! that every code moves whenever one is met and none is left behind.

use super::{Book, Quantised, Quantiser, Search, estimate, of_head};
use crate::config::{Distance, Estimator, QuantiserKind};
use crate::error::Result;
use crate::model::Scope;
use crate::model::losses::Term;
use crate::ops;
use crate::plan::ParamInit;
use crate::tape::{Act, Idx};

/// Name of the state that holds C. When a run starts it is fitted to the first latents by k-means, or
/// with no iterations drawn from N(0, 1/d), as the paper has it.
pub const FROZEN: &str = "codebook_frozen";

#[derive(Debug, Clone)]
pub struct SimVq {
    pub head: usize,
    pub k: usize,
    pub d: usize,
    pub estimator: Estimator,
    pub beta: f32,
}

impl SimVq {
    /// The codes C W, [k, d].
    fn codes(&self, s: &mut Scope<'_>) -> Result<Act> {
        let frozen = s.tape.state(&of_head(FROZEN, self.head), &[self.k, self.d])?;
        let name = of_head("quantize.proj.weight", self.head);
        let weight = s.param(&name, &[self.d, self.d], ParamInit::Identity, false)?;
        ops::linear(s.tape, frozen, weight, None)
    }
}

impl Quantiser for SimVq {
    fn training(&self, s: &mut Scope<'_>, z: Act) -> Result<Quantised> {
        let codes = self.codes(s)?;
        let nearest = ops::nearest_code(s.tape, z, codes)?;
        let code = estimate(s, self.estimator, z, nearest.code)?;
        let fixed = s.tape.detach(nearest.code);
        let commitment = ops::mse(s.tape, z, fixed)?;
        let learned = ops::select_rows(s.tape, nearest.idx, codes)?;
        let still = s.tape.detach(z);
        let codebook = ops::mse(s.tape, learned, still)?;
        let terms = vec![
            Term::new(of_head("commitment", self.head), commitment, self.beta),
            Term::new(of_head("codebook", self.head), codebook, 1.0),
        ];
        let book = Book {
            head: self.head,
            k: self.k,
            d: self.d,
            kind: QuantiserKind::Simvq,
            distance: Distance::Euclid,
            estimator: self.estimator,
            beta: self.beta,
        };
        let searches = vec![Search { book, z, nearest }];
        Ok(Quantised { code, idx: vec![nearest.idx], terms, searches })
    }

    fn quantise(&self, s: &mut Scope<'_>, z: Act) -> Result<(Vec<Idx>, Act)> {
        let codes = self.codes(s)?;
        let nearest = ops::nearest_code(s.tape, z, codes)?;
        Ok((vec![nearest.idx], nearest.code))
    }

    fn lookup(&self, s: &mut Scope<'_>, idx: &[Idx]) -> Result<Act> {
        let codes = self.codes(s)?;
        ops::lookup(s.tape, idx[0], codes)
    }

    fn heads(&self) -> usize {
        1
    }
}
