//! Which samplers there are, and what a user may choose about them.

use crate::error::{Error, Result};
use std::f64::consts::{FRAC_PI_2, PI};

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampler {
    /// The strided posterior of the corruption: exact for any number of steps as far as one step's
    /// tokens are independent given xt.
    Ancestral,
    /// Confidence-ordered decoding (MaskGIT, 2202.04200) with Gumbel noise of scale `tau` that
    /// fades over the run.
    MaskGit { tau: f64 },
    /// One token after the other, each of those left with the same chance: what the continuous-time chain
    /// does, event by event (2409.02908). As many network evaluations as tokens.
    FirstHitting,
    /// As many tokens a step as [`Sampler::MaskGit`], in the order of a sequence that spreads evenly over
    /// the grid (2503.17076).
    Halton,
    /// [`Sampler::Ancestral`] that masks what it has revealed again, with probability `eta` a step as far
    /// as the marginals allow (2503.00307, ReMDM-cap): mistakes can be taken back.
    Remdm { eta: f64 },
    /// Equally many tokens a step, at places drawn in proportion to their purity, the largest probability
    /// that the network gives there; each from log-probabilities times 1 + `weight` purity (Improved
    /// VQ-Diffusion, 2205.16007, section 4.2 and equation 11).
    Purity { weight: f64 },
    /// Of Gaussian diffusion only: [`crate::diffusion::gaussian::Step::between`], with the share `eta` of
    /// fresh noise, from none at 0 to what [`Sampler::Ancestral`] adds there, at 1.
    Ddim { eta: f64 },
}

/// What a sampler wants to know of a draw beside the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Score {
    Nothing,
    /// Its log-probability.
    LogProbability,
    /// The largest probability at its place.
    Purity,
}

impl Sampler {
    pub const NAMES: [&'static str; 7] =
        ["ancestral", "maskgit", "first-hitting", "halton", "remdm", "purity", "ddim"];

    /// # Errors
    /// An unknown name, with the valid ones.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "ancestral" => Ok(Sampler::Ancestral),
            "maskgit" => Ok(Sampler::MaskGit { tau: 4.5 }),
            "first-hitting" => Ok(Sampler::FirstHitting),
            "halton" => Ok(Sampler::Halton),
            "remdm" => Ok(Sampler::Remdm { eta: 0.03 }),
            "purity" => Ok(Sampler::Purity { weight: 1.0 }),
            "ddim" => Ok(Sampler::Ddim { eta: 0.0 }),
            _ => Err(Error::usage(format!("no sampler is called {name}"))
                .help(format!("use one of: {}", Self::NAMES.join(", ")))),
        }
    }

    /// The same with another eta.
    ///
    /// # Errors
    /// A sampler whose noise is not chosen so.
    pub fn with_eta(self, eta: f64) -> Result<Self> {
        match self {
            Sampler::Ddim { .. } => Ok(Sampler::Ddim { eta }),
            _ => Err(Error::usage("only ddim has a share of noise")
                .at(format!("--eta {eta}"))
                .help("use --sampler ddim, or leave --eta out")),
        }
    }

    /// Steps where the user gives none, for grids of `length` tokens.
    pub fn default_steps(self, length: usize) -> usize {
        match self {
            Sampler::Ancestral | Sampler::Halton => 32,
            Sampler::Purity { .. } | Sampler::Ddim { .. } => 32,
            Sampler::MaskGit { .. } => 12,
            Sampler::FirstHitting => length,
            Sampler::Remdm { .. } => 64,
        }
    }

    pub fn score(self) -> Score {
        match self {
            Sampler::MaskGit { .. } => Score::LogProbability,
            Sampler::Purity { .. } => Score::Purity,
            _ => Score::Nothing,
        }
    }

    /// Whether a token that is revealed may be masked again.
    pub fn takes_back(self) -> bool {
        matches!(self, Sampler::Remdm { .. })
    }

    /// Whether its steps are those of a time grid.
    pub fn has_times(self) -> bool {
        matches!(self, Sampler::Ancestral | Sampler::Remdm { .. })
    }
}

/// The time grid of [`Sampler::Ancestral`] and [`Sampler::Remdm`]: which share of the tokens is masked
/// when a part r of the run is done. A network that is not told the time does not care by which noise
/// schedule it was trained, so that any falling share will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pace {
    /// Times evenly apart in the schedule of training.
    #[default]
    Trained,
    /// 1 - r: as many tokens in every step.
    Linear,
    /// cos(pi r / 2): few tokens at first, when little is known (MaskGIT, 2202.04200; the cosine grid of
    /// MD4, 2406.04329).
    Cosine,
}

impl Pace {
    /// # Errors
    /// An unknown name, with the valid ones.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "trained" => Ok(Pace::Trained),
            "linear" => Ok(Pace::Linear),
            "cosine" => Ok(Pace::Cosine),
            _ => Err(Error::usage(format!("no time grid is called {name}"))
                .help("use one of: trained, linear, cosine")),
        }
    }

    /// The share that is masked after a part `r` in [0, 1] of the run, of [`Pace::Trained`] `trained`.
    pub fn masked(self, r: f64, trained: f64) -> f64 {
        match self {
            Pace::Trained => trained,
            Pace::Linear => 1.0 - r,
            Pace::Cosine => (FRAC_PI_2 * r).cos(),
        }
    }

    /// How many of `steps` steps of a chain are left to go back after `done` of `count` rounds: evenly
    /// apart, or as [`Pace::masked`] says, at least one a round.
    pub fn left(self, done: usize, count: usize, steps: usize) -> usize {
        match self {
            Pace::Trained | Pace::Linear => ((count - done) * steps).div_ceil(count),
            Pace::Cosine => {
                let share = (FRAC_PI_2 * done as f64 / count as f64).cos();
                // What rounding makes of cos(pi / 2) = 0 is no step.
                let left = (share * steps as f64 - 1e-9).ceil() as usize;
                left.clamp(count - done, steps - done)
            }
        }
    }
}

/// How the scale of classifier-free guidance grows over a run, from 1, none, to what is asked for: early
/// tokens keep the variety, late ones the class (Muse, 2301.00704, section 2.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GuidanceSchedule {
    #[default]
    Constant,
    /// As Muse does it.
    Linear,
    /// By half a cosine: slow at both ends.
    Cosine,
}

impl GuidanceSchedule {
    /// # Errors
    /// An unknown name, with the valid ones.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "constant" => Ok(GuidanceSchedule::Constant),
            "linear" => Ok(GuidanceSchedule::Linear),
            "cosine" => Ok(GuidanceSchedule::Cosine),
            _ => Err(Error::usage(format!("no guidance schedule is called {name}"))
                .help("use one of: constant, linear, cosine")),
        }
    }

    /// The scale in `round` of `rounds`, of `scale` in the last one.
    pub fn at(self, scale: f32, round: usize, rounds: usize) -> f32 {
        let part = match rounds {
            0 | 1 => 1.0,
            _ => round.min(rounds - 1) as f64 / (rounds - 1) as f64,
        };
        let grown = match self {
            GuidanceSchedule::Constant => return scale,
            GuidanceSchedule::Linear => part,
            GuidanceSchedule::Cosine => 0.5 * (1.0 - (PI * part).cos()),
        };
        (1.0 + (f64::from(scale) - 1.0) * grown) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guidance_grows_from_none() {
        let all = |schedule: GuidanceSchedule| [0, 1, 2, 3, 4].map(|i| schedule.at(5.0, i, 5));
        assert_eq!(all(GuidanceSchedule::Constant), [5.0; 5]);
        assert_eq!(all(GuidanceSchedule::Linear), [1.0, 2.0, 3.0, 4.0, 5.0]);
        let [first, early, middle, late, last] = all(GuidanceSchedule::Cosine);
        assert_eq!([first, middle, last], [1.0, 3.0, 5.0]);
        assert!(early < 2.0 && late > 4.0, "{early} {late}");
        assert_eq!(GuidanceSchedule::Linear.at(3.0, 0, 1), 3.0);
        assert_eq!(GuidanceSchedule::parse("sine").unwrap_err().exit_code(), 2);
    }

    #[test]
    fn paces_end_where_they_should() {
        for (pace, half) in [(Pace::Linear, 0.5), (Pace::Cosine, 0.5f64.sqrt())] {
            let at = |r: f64| pace.masked(r, f64::NAN);
            assert!(at(0.0) == 1.0 && at(1.0).abs() < 1e-15 && (at(0.5) - half).abs() < 1e-15);
        }
        assert_eq!(Pace::Trained.masked(0.3, 0.9), 0.9);
        assert_eq!(Pace::parse("cubic").unwrap_err().exit_code(), 2);
    }

    /// All rounds take a step or more, and together all of them; the cosine takes small ones first.
    #[test]
    fn rounds_of_a_chain_take_every_step() {
        for steps in 1..=40 {
            for count in 1..=steps {
                for pace in [Pace::Linear, Pace::Cosine] {
                    let left: Vec<usize> =
                        (0..=count).map(|i| pace.left(i, count, steps)).collect();
                    assert_eq!((left[0], left[count]), (steps, 0), "{pace:?} {count} of {steps}");
                    assert!(left.windows(2).all(|w| w[0] > w[1]), "{left:?}");
                }
            }
        }
        let left = [0, 1, 2, 3, 4].map(|i| Pace::Cosine.left(i, 4, 100));
        assert_eq!(left, [100, 93, 71, 39, 0]);
    }

    #[test]
    fn every_name_is_a_sampler() {
        for name in Sampler::NAMES {
            assert!(Sampler::parse(name).is_ok(), "{name}");
        }
        assert_eq!(Sampler::parse("gibbs").unwrap_err().exit_code(), 2);
    }
}
