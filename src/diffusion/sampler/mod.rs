//! Samplers. The network runs on the device and draws x0 ~ p(x0 | xt) for every token; which tokens
//! to keep is decided here, with counter-based draws, from a few numbers a token and step.

mod kind;
mod order;
mod unmask;
mod walk_back;

pub use kind::{GuidanceSchedule, Pace, Sampler, Score};

use super::Corruption;
use crate::error::{Error, Result};
use crate::rng::{Rng, Stream};

/// What a network is asked in one round of a run.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// All tokens of all samples, masked or not.
    pub xt: &'a [u32],
    /// Distinguishes the draws of one run.
    pub round: u32,
    /// Rounds of the run.
    pub rounds: u32,
    /// The step of a chain, else 0.
    pub time: u32,
    pub score: Score,
}

/// A draw of x0 for every token.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    pub tokens: Vec<u32>,
    /// What [`Question::score`] asks for; of [`Score::Nothing`] nothing.
    pub scores: Vec<f32>,
}

/// What a sampler needs of a network.
pub trait TokenModel {
    fn draw(&mut self, question: &Question<'_>) -> Result<Drawn>;

    /// Whether the same tokens have the same law in every round: then it need not be asked again where no
    /// token changed.
    fn is_steady(&self) -> bool {
        true
    }
}

/// A sampling run over `samples` grids of `length` tokens.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    pub sampler: Sampler,
    pub corruption: &'a Corruption,
    pub pace: Pace,
    pub steps: usize,
    pub samples: usize,
    pub length: usize,
    /// Tokens of a row of the grid.
    pub cols: usize,
    /// The mask token, K.
    pub mask: u32,
    pub seed: u64,
    /// Global index of the first sample, so that a large run can be made in parts.
    pub first: u64,
    /// In-painting: the tokens that are given and stay, the mask where they are to be made; empty: all.
    pub given: &'a [u32],
}

impl Run<'_> {
    /// From all masks, or from noise, to codes: `samples * length` tokens.
    ///
    /// # Errors
    /// No steps, or more than a chain has; a sampler or a grid of times that the corruption cannot have.
    pub fn sample(&self, model: &mut dyn TokenModel) -> Result<Vec<u32>> {
        if self.steps == 0 {
            return Err(
                Error::usage("a sampler needs at least one step").help("use --steps 1 or more")
            );
        }
        if let Sampler::Ddim { .. } = self.sampler {
            return Err(Error::usage("ddim is a sampler of Gaussian noise")
                .why("the diffusion was trained on codes")
                .help("use --sampler ancestral"));
        }
        if self.pace != Pace::Trained && !self.sampler.has_times() {
            return Err(Error::usage("this sampler has no time grid")
                .why("it says itself how many tokens a step reveals")
                .help("leave --grid out, or use --sampler ancestral or remdm"));
        }
        if !self.given.is_empty() && self.given.len() != self.samples * self.length {
            return Err(Error::failed("another number of tokens is given than is made"));
        }
        match self.corruption {
            Corruption::Masked(schedule) => self.unmask(*schedule, model),
            Corruption::Chain(chain) => self.walk_back(chain, model),
        }
    }

    /// The token that is given at a place.
    fn held(&self, place: usize) -> Option<u32> {
        self.given.get(place).copied().filter(|&token| token != self.mask)
    }

    /// Tokens of a sample that are to be made.
    fn unknown(&self, sample: usize) -> usize {
        let places = sample * self.length..(sample + 1) * self.length;
        places.filter(|&place| self.held(place).is_none()).count()
    }

    /// Puts back what is given.
    fn hold(&self, x: &mut [u32]) {
        for (place, x) in x.iter_mut().enumerate() {
            *x = self.held(place).unwrap_or(*x);
        }
    }

    /// x0 for every token, and what the sampler wants to know of it.
    fn ask(
        &self,
        model: &mut dyn TokenModel,
        xt: &[u32],
        round: usize,
        time: usize,
    ) -> Result<Drawn> {
        let (round, rounds, time) = (round as u32, self.steps as u32, time as u32);
        let score = self.sampler.score();
        let drawn = model.draw(&Question { xt, round, rounds, time, score })?;
        let scores = if score == Score::Nothing { 0 } else { xt.len() };
        if (drawn.tokens.len(), drawn.scores.len()) != (xt.len(), scores) {
            return Err(Error::failed("the network returned another number of tokens"));
        }
        Ok(drawn)
    }

    fn rng(&self, sample: usize, step: usize) -> Rng {
        // One stream a (sample, step): 2^20 steps are room enough.
        Rng::new(self.seed, Stream::Unmask, ((self.first + sample as u64) << 20) | step as u64)
    }
}

#[cfg(test)]
mod law_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
