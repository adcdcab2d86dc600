//! Quantisers: how a latent becomes one or more of K codes, and how the codes learn.
//!
//! One trait; a file for each family. They compose: [`residual`] and [`groups`] hold others.

mod book;
mod fsq;
mod groups;
mod residual;
mod signs;
mod simvq;

pub use book::{Book, CODEBOOK, CODEBOOK_PARAM, EMA_M, EMA_N};
pub use residual::LEVEL;
pub use simvq::FROZEN;

use super::Scope;
use super::losses::Term;
use crate::config::{Config, Estimator, QuantiserKind};
use crate::error::Result;
use crate::ops::{self, Nearest};
use crate::tape::{Act, Idx, Tape};
use std::fmt::Debug;

/// A map from latents [.., d] to codes [.., d] with indices.
pub trait Quantiser: Debug {
    /// The training pass.
    fn training(&self, s: &mut Scope<'_>, z: Act) -> Result<Quantised>;
    /// Codes and indices without anything to learn from.
    fn quantise(&self, s: &mut Scope<'_>, z: Act) -> Result<(Vec<Idx>, Act)>;
    /// Indices of the codes nearest to points [.., d] of the space of codes, and the codes. A code is its own
    /// nearest one; where latents are bounded on the way, [`quantise`](Self::quantise) makes another of it.
    fn nearest(&self, s: &mut Scope<'_>, point: Act) -> Result<(Vec<Idx>, Act)> {
        self.quantise(s, point)
    }
    /// The codes [n, d] of indices, [n] for each head: for every index what
    /// [`quantise`](Self::quantise) gave with it.
    fn lookup(&self, s: &mut Scope<'_>, idx: &[Idx]) -> Result<Act>;
    /// Indices a place.
    fn heads(&self) -> usize;
}

/// What a training pass through a quantiser yields.
#[derive(Debug, Clone)]
pub struct Quantised {
    /// The codes, with the estimator's gradient to the latents.
    pub code: Act,
    /// [n] for each head.
    pub idx: Vec<Idx>,
    /// Losses; their names end in the number of the head, from the second on.
    pub terms: Vec<Term>,
    /// One for each codebook.
    pub searches: Vec<Search>,
}

/// A search of a codebook, for its statistics.
#[derive(Debug, Clone)]
pub struct Search {
    pub book: Book,
    /// What was searched for.
    pub z: Act,
    pub nearest: Nearest,
}

/// The quantiser of the settings.
pub fn build(config: &Config) -> Box<dyn Quantiser> {
    let (q, m) = (&config.quantiser, &config.model);
    let width = m.vq_embed_dim / q.num_codebooks.max(1);
    let group = |first: usize| -> Box<dyn Quantiser> {
        let level = |l: usize| one(config, first + l, width);
        match q.residual_levels {
            1 => level(0),
            n => Box::new(residual::Residual {
                first,
                levels: (0..n).map(level).collect(),
                estimator: q.estimator,
                dropout: q.level_dropout > 0.0,
            }),
        }
    };
    match q.num_codebooks {
        1 => group(0),
        n => {
            let parts = (0..n).map(|g| group(g * q.residual_levels)).collect();
            Box::new(groups::Groups { width, parts })
        }
    }
}

/// The quantiser of one head, for latents of `d` channels.
fn one(config: &Config, head: usize, d: usize) -> Box<dyn Quantiser> {
    let (q, m) = (&config.quantiser, &config.model);
    let (k, beta) = (m.num_vq_embeddings, m.commitment_cost as f32);
    match q.kind {
        QuantiserKind::Ema | QuantiserKind::Gradient => Box::new(Book {
            head,
            k,
            d,
            kind: q.kind,
            distance: q.distance,
            estimator: q.estimator,
            beta,
        }),
        QuantiserKind::Simvq => Box::new(simvq::SimVq { head, k, d, estimator: q.estimator, beta }),
        QuantiserKind::Fsq => Box::new(fsq::Fsq { levels: q.fsq_levels.clone() }),
        QuantiserKind::Lfq | QuantiserKind::Bsq => Box::new(signs::Signs {
            head,
            d,
            sphere: q.kind == QuantiserKind::Bsq,
            inverse_temperature: q.inverse_temperature as f32,
            entropy_weight: q.entropy_weight as f32,
            entropy_bits: q.entropy_bits,
            beta,
        }),
    }
}

/// The value of `code`, with a gradient to `z` alone.
fn estimate(s: &mut Scope<'_>, estimator: Estimator, z: Act, code: Act) -> Result<Act> {
    match estimator {
        Estimator::StraightThrough => ops::straight_through(s.tape, z, code),
        Estimator::Rotation => ops::rotate(s.tape, z, code),
    }
}

/// `name`, told apart from that of the other heads.
pub fn of_head(name: &str, head: usize) -> String {
    match head {
        0 => name.into(),
        n => format!("{name}.{n}"),
    }
}

/// Launches that gather the step's code statistics (added over lanes) and move the codebooks. Call
/// [`Tape::backward`] before: what follows runs once per step.
pub fn move_codebooks(tape: &mut Tape, config: &Config, searches: &[Search]) -> Result<()> {
    let moving: Vec<&Search> = searches.iter().filter(|s| s.book.counts(config)).collect();
    let mut statistics = vec![];
    for Search { book, z, nearest } in &moving {
        let (counts, sums) = ops::code_sums(tape, nearest.idx, *z, book.k)?;
        tape.report(&of_head("code_counts", book.head), counts)?;
        if book.kind == QuantiserKind::Ema {
            tape.report(&of_head("code_sums", book.head), sums)?;
        }
        statistics.push((counts, sums));
    }
    if moving.is_empty() {
        return Ok(());
    }
    tape.begin_update();
    for (search, sums) in moving.iter().zip(statistics) {
        search.book.learn(tape, &config.quantiser, sums)?;
    }
    Ok(())
}
