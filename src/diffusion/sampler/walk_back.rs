//! Ancestral steps of a chain, in which codes also become other codes.

use super::{Run, Sampler, TokenModel};
use crate::diffusion::Chain;
use crate::error::{Error, Result};

/// A step that no round has: that of the draws of x_T.
const START: usize = (1 << 20) - 1;

impl Run<'_> {
    /// x_s ~ q(x_s | x_t, x_0) with x_0 ~ p(x_0 | x_t), from the chain's prior.
    pub(super) fn walk_back(&self, chain: &Chain, model: &mut dyn TokenModel) -> Result<Vec<u32>> {
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
        let codes = chain.codes();
        let mut x = self.noise(chain);
        self.hold(&mut x);
        let left = |done: usize| self.pace.left(done, self.steps, chain.steps());
        for round in 0..self.steps {
            let (t, s) = (left(round) - 1, left(round + 1).checked_sub(1));
            let drawn = self.ask(model, &x, round, t)?.tokens;
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

    /// x_T of every token.
    fn noise(&self, chain: &Chain) -> Vec<u32> {
        let (codes, prior) = (chain.codes(), chain.prior());
        let mut x = vec![];
        for sample in 0..self.samples {
            let mut rng = self.rng(sample, START);
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
        x
    }
}
