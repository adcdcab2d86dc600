//! Discrete diffusion over code indices: corruptions, noise schedules, samplers, the likelihood bound
//! and the baseline it must beat; and [`gaussian`] diffusion of continuous latents.
//!
//! State of a token: a code in 0..K, or the mask K. Every token is corrupted by itself; the network
//! predicts p(x0 | xt). In continuous time a token is masked with probability 1 - alpha(t) (MDLM,
//! 2406.07524; MD4, 2406.04329); in T steps it may also become another code ([`Chain`]).

pub mod baseline;
mod chain;
pub mod gaussian;
pub mod process;
pub mod sampler;
mod schedule;

pub use chain::Chain;
pub use schedule::{Masking, Schedule, stratified_times};

use crate::config::{Diffusion, Process};
use crate::error::{Error, Result};

/// What the settings say is done to codes.
#[derive(Debug, Clone, PartialEq)]
pub enum Corruption {
    /// In continuous time, by the mask alone. What is masked tells the time.
    Masked(Schedule),
    /// In steps; the network is told which.
    Chain(Chain),
}

impl Corruption {
    pub fn new(settings: &Diffusion, codes: usize) -> Result<Self> {
        let steps = settings.steps;
        Ok(Corruption::Chain(match settings.process {
            Process::Masked => return Ok(Corruption::Masked(Schedule(settings.schedule))),
            Process::VqDiffusion => Chain::released(codes, steps)?,
            Process::MaskAndReplace => Chain::published(codes, steps)?,
            Process::Absorbing => Chain::absorbing(codes, steps)?,
            Process::Uniform => Chain::uniform(codes, steps)?,
            Process::Gaussian => return Err(Error::failed("Gaussian noise is of no codes")),
        }))
    }

    /// Times that the network is told apart; 0: none.
    pub fn times(&self) -> usize {
        match self {
            Corruption::Masked(_) => 0,
            Corruption::Chain(chain) => chain.steps(),
        }
    }
}
