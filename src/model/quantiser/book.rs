//! A table of codes, searched for the nearest: the quantiser of the VQ-VAE (1711.00937), learned by
//! gradient or as moving averages (its appendix A.1), by distance or by direction (2110.04627).

use super::{FROZEN, Quantised, Quantiser, Search, estimate, of_head};
use crate::config::{Config, Distance, Estimator, QuantiserKind};
use crate::error::Result;
use crate::model::Scope;
use crate::model::losses::Term;
use crate::ops::{self, Nearest};
use crate::plan::ParamInit;
use crate::tape::{Act, Idx, Param, Tape};

/// Names of the codebook's states when it is a moving average.
pub const CODEBOOK: &str = "codebook";
pub const EMA_N: &str = "ema_n";
pub const EMA_M: &str = "ema_m";
/// Name of the codebook parameter when it is trained by gradient (diffusers' name).
pub const CODEBOOK_PARAM: &str = "quantize.embedding.weight";

#[derive(Debug, Clone)]
pub struct Book {
    pub head: usize,
    pub k: usize,
    pub d: usize,
    pub kind: QuantiserKind,
    pub distance: Distance,
    pub estimator: Estimator,
    /// Weight of the commitment term.
    pub beta: f32,
}

impl Book {
    /// The state `name` of this book.
    pub fn state(&self, name: &str) -> String {
        of_head(name, self.head)
    }

    /// The parameter that holds the codes, where they are trained by gradient.
    pub fn param(&self) -> String {
        match self.head {
            0 => CODEBOOK_PARAM.into(),
            n => format!("quantize.{n}.embedding.weight"),
        }
    }

    fn cosine(&self) -> bool {
        self.distance == Distance::Cosine
    }

    /// The state that holds the codes, where they are not a parameter; of SimVQ the frozen table.
    pub fn home(&self) -> String {
        match self.kind {
            QuantiserKind::Simvq => self.state(FROZEN),
            _ => self.state(CODEBOOK),
        }
    }

    fn codes(&self, tape: &mut Tape) -> Result<Act> {
        tape.state(&self.home(), &[self.k, self.d])
    }

    fn table(&self, s: &mut Scope<'_>) -> Result<Param> {
        let init = ParamInit::Uniform(1.0 / self.k as f32);
        s.param(&self.param(), &[self.k, self.d], init, false)
    }

    /// What is searched for: the latent, or its direction.
    fn seen(&self, s: &mut Scope<'_>, z: Act) -> Result<Act> {
        match self.cosine() {
            true => ops::normalise_rows(s.tape, z),
            false => Ok(z),
        }
    }

    /// The nearest codes; `code` as the decoder takes it. States hold codes of length 1 where only
    /// directions count, parameters have any length.
    fn search(&self, s: &mut Scope<'_>, seen: Act) -> Result<Nearest> {
        match (self.kind, self.distance) {
            (QuantiserKind::Gradient, Distance::Euclid) => {
                let table = self.table(s)?;
                ops::nearest_code(s.tape, seen, table)
            }
            (QuantiserKind::Gradient, Distance::Cosine) => {
                let table = self.table(s)?;
                let nearest = ops::nearest_code_cosine(s.tape, seen, table)?;
                let code = ops::normalise_rows(s.tape, nearest.code)?;
                Ok(Nearest { code, ..nearest })
            }
            _ => {
                let codes = self.codes(s.tape)?;
                ops::nearest_code(s.tape, seen, codes)
            }
        }
    }

    /// Must the step count how often each code is chosen?
    pub fn counts(&self, config: &Config) -> bool {
        match self.kind {
            QuantiserKind::Ema => true,
            QuantiserKind::Gradient => config.quantiser.revive_every > 0,
            _ => false,
        }
    }

    /// Moves the codes, or counts for those that are trained by gradient.
    pub fn learn(
        &self,
        tape: &mut Tape,
        quantiser: &crate::config::Quantiser,
        (counts, sums): (Act, Act),
    ) -> Result<()> {
        let (decay, eps) = (quantiser.ema_decay as f32, quantiser.ema_eps as f32);
        let ema_n = tape.state(&self.state(EMA_N), &[self.k])?;
        if self.kind == QuantiserKind::Gradient {
            return ops::ema_counts(tape, counts, ema_n, decay);
        }
        let codes = self.codes(tape)?;
        let ema_m = tape.state(&self.state(EMA_M), &[self.k, self.d])?;
        ops::ema_codebook(tape, (counts, sums), [ema_n, ema_m, codes], decay, eps)?;
        match self.cosine() {
            true => ops::normalise_state(tape, codes),
            false => Ok(()),
        }
    }
}

impl Quantiser for Book {
    fn training(&self, s: &mut Scope<'_>, z: Act) -> Result<Quantised> {
        let seen = self.seen(s, z)?;
        let nearest = self.search(s, seen)?;
        let code = estimate(s, self.estimator, seen, nearest.code)?;
        let fixed = s.tape.detach(nearest.code);
        let commitment = ops::mse(s.tape, seen, fixed)?;
        let mut terms = vec![Term::new(of_head("commitment", self.head), commitment, self.beta)];
        if self.kind == QuantiserKind::Gradient {
            let table = self.table(s)?;
            let mut learned = ops::embedding(s.tape, nearest.idx, table)?;
            if self.cosine() {
                learned = ops::normalise_rows(s.tape, learned)?;
            }
            let still = s.tape.detach(seen);
            let codebook = ops::mse(s.tape, learned, still)?;
            terms.push(Term::new(of_head("codebook", self.head), codebook, 1.0));
        }
        let idx = vec![nearest.idx];
        let searches = vec![Search { book: self.clone(), z: seen, nearest }];
        Ok(Quantised { code, idx, terms, searches })
    }

    fn quantise(&self, s: &mut Scope<'_>, z: Act) -> Result<(Vec<Idx>, Act)> {
        let seen = self.seen(s, z)?;
        let nearest = self.search(s, seen)?;
        Ok((vec![nearest.idx], nearest.code))
    }

    fn lookup(&self, s: &mut Scope<'_>, idx: &[Idx]) -> Result<Act> {
        if self.kind == QuantiserKind::Ema {
            let codes = self.codes(s.tape)?;
            return ops::lookup(s.tape, idx[0], codes);
        }
        let table = self.table(s)?;
        let code = ops::lookup(s.tape, idx[0], table)?;
        match self.cosine() {
            true => ops::normalise_rows(s.tape, code),
            false => Ok(code),
        }
    }

    fn heads(&self) -> usize {
        1
    }
}
