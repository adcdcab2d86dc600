//! Samplers. The network runs on the device and draws x0 ~ p(x0 | xt) for every token; which tokens
//! to keep is decided here, with counter-based draws, from a few integers a step.

mod order;

use super::{Chain, Corruption, Schedule};
use crate::error::{Error, Result};
use crate::rng::{Rng, Stream};
use order::{halton, most_confident};

/// What a sampler needs of a network.
pub trait TokenModel {
    /// One draw of x0 for every token of `xt` (masked or not) and its log-probability. `round`
    /// distinguishes the draws of one sampling run; `time` is the step of a chain, else 0.
    fn draw(&mut self, xt: &[u32], round: u32, time: u32) -> Result<(Vec<u32>, Vec<f32>)>;
}

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
    /// Of Gaussian diffusion only: [`super::gaussian::Step::between`]. Without noise at eta = 0.
    Ddim { eta: f64 },
}

impl Sampler {
    pub const NAMES: [&'static str; 6] =
        ["ancestral", "maskgit", "first-hitting", "halton", "remdm", "ddim"];

    /// # Errors
    /// An unknown name, with the valid ones.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "ancestral" => Ok(Sampler::Ancestral),
            "maskgit" => Ok(Sampler::MaskGit { tau: 4.5 }),
            "first-hitting" => Ok(Sampler::FirstHitting),
            "halton" => Ok(Sampler::Halton),
            "remdm" => Ok(Sampler::Remdm { eta: 0.03 }),
            "ddim" => Ok(Sampler::Ddim { eta: 0.0 }),
            _ => Err(Error::usage(format!("no sampler is called {name}"))
                .help(format!("use one of: {}", Self::NAMES.join(", ")))),
        }
    }

    /// The same with another eta.
    ///
    /// # Errors
    /// A sampler without one.
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
            Sampler::Ancestral => 32,
            Sampler::MaskGit { .. } => 12,
            Sampler::FirstHitting => length,
            Sampler::Halton => 32,
            Sampler::Remdm { .. } => 64,
            Sampler::Ddim { .. } => 32,
        }
    }
}

/// A sampling run over `samples` grids of `length` tokens.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    pub sampler: Sampler,
    pub corruption: &'a Corruption,
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
    /// From all masks to codes: `samples * length` tokens.
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

    /// x0 for every token, and its log-probability.
    fn ask(
        &self,
        model: &mut dyn TokenModel,
        x: &[u32],
        round: usize,
        time: usize,
    ) -> Result<(Vec<u32>, Vec<f32>)> {
        let (drawn, logp) = model.draw(x, round as u32, time as u32)?;
        if drawn.len() != x.len() || logp.len() != x.len() {
            return Err(Error::failed("the network returned another number of tokens"));
        }
        Ok((drawn, logp))
    }

    /// From all masks. The network is not told the time: where a step changed nothing, the next one would
    /// hear the same, and draws of tokens that stay masked are as good the next time.
    fn unmask(&self, schedule: Schedule, model: &mut dyn TokenModel) -> Result<Vec<u32>> {
        if self.sampler == Sampler::FirstHitting && self.steps != self.length {
            return Err(Error::usage(format!("{} steps for {} tokens", self.steps, self.length))
                .why("first-hitting reveals one token a step")
                .help("leave --steps out"));
        }
        let mut x = vec![self.mask; self.samples * self.length];
        self.hold(&mut x);
        let spread = halton(self.length / self.cols.max(1), self.cols);
        let mut heard = None;
        for step in 0..self.steps {
            let (drawn, logp) = match heard.take() {
                Some(heard) => heard,
                None => self.ask(model, &x, step, 0)?,
            };
            let mut changed = false;
            for sample in 0..self.samples {
                let at = sample * self.length..(sample + 1) * self.length;
                let (x, drawn, logp) = (&mut x[at.clone()], &drawn[at.clone()], &logp[at]);
                let mut rng = self.rng(sample, step);
                changed |= match self.sampler {
                    Sampler::Ancestral | Sampler::Ddim { .. } => {
                        self.ancestral(x, drawn, schedule, step, 0.0, &mut rng)
                    }
                    Sampler::Remdm { eta } => {
                        self.ancestral(x, drawn, schedule, step, eta, &mut rng)
                    }
                    Sampler::MaskGit { tau } => {
                        let fade = tau * (1.0 - self.part(step));
                        let order = most_confident(x, logp, self.mask, fade, &mut rng);
                        self.reveal(x, drawn, order, step, self.unknown(sample))
                    }
                    Sampler::Halton => {
                        self.reveal(x, drawn, spread.clone(), step, self.unknown(sample))
                    }
                    Sampler::FirstHitting => {
                        let left = x.iter().filter(|&&x| x == self.mask).count();
                        let next = (rng.uniform() * left as f64) as usize;
                        let mut masked = (0..x.len()).filter(|&i| x[i] == self.mask);
                        match masked.nth(next) {
                            Some(i) => {
                                x[i] = drawn[i];
                                true
                            }
                            None => false,
                        }
                    }
                };
            }
            self.hold(&mut x);
            if !changed {
                heard = Some((drawn, logp));
            }
        }
        Ok(x)
    }

    /// The share of the run that is done after `step`.
    fn part(&self, step: usize) -> f64 {
        (step + 1) as f64 / self.steps as f64
    }

    /// Reveals the first masked tokens of `order`: of `all` that are to be made, after step i of T
    /// floor(all cos(pi r / 2)), r = (i+1)/T, stay masked, at least one and at most all but one until the
    /// last step (MaskGIT).
    fn reveal(
        &self,
        x: &mut [u32],
        drawn: &[u32],
        order: Vec<usize>,
        step: usize,
        all: usize,
    ) -> bool {
        let unknown = x.iter().filter(|&&x| x == self.mask).count();
        if unknown == 0 {
            return false;
        }
        let last = step + 1 == self.steps;
        let wanted = (std::f64::consts::FRAC_PI_2 * self.part(step)).cos() * all as f64;
        let stay = if last { 0 } else { (wanted as usize).max(1).min(unknown - 1) };
        let next = order.into_iter().filter(|&i| x[i] == self.mask);
        for i in next.take(unknown - stay).collect::<Vec<_>>() {
            x[i] = drawn[i];
        }
        true
    }

    /// Ancestral steps of a chain: x_s ~ q(x_s | x_t, x_0) with x_0 ~ p(x_0 | x_t).
    fn walk_back(&self, chain: &Chain, model: &mut dyn TokenModel) -> Result<Vec<u32>> {
        if self.sampler != Sampler::Ancestral {
            return Err(Error::usage("this sampler only knows masks that become codes")
                .why("the diffusion was trained with codes that become other codes, in steps")
                .help("use --sampler ancestral"));
        }
        if self.steps > chain.steps() {
            return Err(Error::usage(format!("{} steps are too many", self.steps))
                .why(format!("the chain was trained with {}", chain.steps()))
                .help(format!("use --steps {} or fewer", chain.steps())));
        }
        let (codes, prior) = (chain.codes(), chain.prior());
        let mut x = vec![];
        for sample in 0..self.samples {
            // A stream that no step has.
            let mut rng = self.rng(sample, (1 << 20) - 1);
            x.extend((0..self.length).map(|_| {
                let mut u = rng.uniform();
                let drawn = prior.iter().position(|p| {
                    u -= p;
                    u < 0.0
                });
                // What rounding leaves over is the likeliest: the mask, if there is one.
                drawn.unwrap_or(if prior[codes] > 0.0 { codes } else { codes - 1 }) as u32
            }));
        }
        self.hold(&mut x);
        for (round, (s, t)) in chain.strided(self.steps).into_iter().enumerate() {
            let (drawn, _) = self.ask(model, &x, round, t)?;
            let step = chain.step(s, t);
            for sample in 0..self.samples {
                let mut rng = self.rng(sample, round);
                for i in sample * self.length..(sample + 1) * self.length {
                    let (state, code) = (x[i] as usize, drawn[i] as usize);
                    x[i] = step.draw(state, code, codes, rng.uniform()) as u32;
                }
            }
            self.hold(&mut x);
        }
        Ok(x)
    }

    fn rng(&self, sample: usize, step: usize) -> Rng {
        // One stream a (sample, step): 2^20 steps are room enough.
        Rng::new(self.seed, Stream::Unmask, ((self.first + sample as u64) << 20) | step as u64)
    }

    /// Time grid from 1 to 0: uniform for the linear schedule, and the cosine schedule has its own
    /// slow end built in.
    fn time(&self, step: usize) -> f64 {
        1.0 - step as f64 / self.steps as f64
    }

    /// A masked token becomes visible between t and s < t with probability (alpha_s - (1 - sigma)
    /// alpha_t) / (1 - alpha_t); a visible one is masked again with probability sigma, the smaller of `eta`
    /// and (1 - alpha_s) / alpha_t. Tells whether any token changed.
    fn ancestral(
        &self,
        x: &mut [u32],
        drawn: &[u32],
        schedule: Schedule,
        step: usize,
        eta: f64,
        rng: &mut Rng,
    ) -> bool {
        let (t, s) = (self.time(step), self.time(step + 1));
        let last = step + 1 == self.steps;
        let (alpha_t, masked_s) = (schedule.alpha(t), schedule.masked(s));
        // At alpha_t = 0 nothing is visible.
        let sigma = if alpha_t > 0.0 { eta.min(masked_s / alpha_t) } else { 0.0 };
        let stay = (masked_s - sigma * alpha_t) / schedule.masked(t);
        let mut changed = false;
        for (x, &token) in x.iter_mut().zip(drawn) {
            // The draw is made for every token, so that one cannot change the others'.
            let u = rng.uniform();
            let masked = *x == self.mask;
            if masked && (last || u >= stay) {
                *x = token;
                changed = true;
            } else if !masked && !last && u < sigma {
                *x = self.mask;
                changed = true;
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests;
