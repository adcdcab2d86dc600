//! Samplers of masks that become codes: all masked at first, a few more tokens known after every step.

use super::order::{halton, most_confident, purest};
use super::{Drawn, Run, Sampler, TokenModel};
use crate::diffusion::Schedule;
use crate::error::{Error, Result};
use crate::rng::Rng;
use std::f64::consts::FRAC_PI_2;

impl Run<'_> {
    /// From all masks. The network is not told the time: where a step changed nothing, the next one would
    /// hear the same, and draws of tokens that stay masked are as good the next time.
    pub(super) fn unmask(
        &self,
        schedule: Schedule,
        model: &mut dyn TokenModel,
    ) -> Result<Vec<u32>> {
        if self.sampler == Sampler::FirstHitting && self.steps != self.length {
            return Err(Error::usage(format!("{} steps for {} tokens", self.steps, self.length))
                .why("first-hitting reveals one token a step")
                .help("leave --steps out"));
        }
        let mut x = vec![self.mask; self.samples * self.length];
        self.hold(&mut x);
        let spread = match self.sampler {
            Sampler::Halton => halton(self.length / self.cols.max(1), self.cols),
            _ => vec![],
        };
        let mut heard = None;
        for step in 0..self.steps {
            if !self.sampler.takes_back() && !x.contains(&self.mask) {
                break;
            }
            let drawn = match heard.take() {
                Some(heard) => heard,
                None => self.ask(model, &x, step, 0)?,
            };
            let mut changed = false;
            for sample in 0..self.samples {
                changed |= self.advance(schedule, step, sample, &mut x, &drawn, &spread);
            }
            self.hold(&mut x);
            if !changed && model.is_steady() {
                heard = Some(drawn);
            }
        }
        Ok(x)
    }

    /// One step of one sample among `x`. Tells whether any token changed.
    fn advance(
        &self,
        schedule: Schedule,
        step: usize,
        sample: usize,
        x: &mut [u32],
        drawn: &Drawn,
        spread: &[usize],
    ) -> bool {
        let at = sample * self.length..(sample + 1) * self.length;
        let scores = drawn.scores.get(at.clone()).unwrap_or_default();
        let (x, drawn) = (&mut x[at.clone()], &drawn.tokens[at]);
        let mut rng = self.rng(sample, step);
        match self.sampler {
            Sampler::Ancestral | Sampler::Ddim { .. } => {
                self.ancestral(x, drawn, schedule, step, 0.0, &mut rng)
            }
            Sampler::Remdm { eta } => self.ancestral(x, drawn, schedule, step, eta, &mut rng),
            Sampler::MaskGit { tau } => {
                let fade = tau * (1.0 - self.part(step + 1));
                let order = most_confident(x, scores, self.mask, fade, &mut rng);
                self.reveal(x, drawn, &order, self.stay(sample, step))
            }
            Sampler::Halton => self.reveal(x, drawn, spread, self.stay(sample, step)),
            Sampler::Purity { .. } => {
                let order = purest(x, scores, self.mask, &mut rng);
                let left = self.unknown(sample) * (self.steps - step - 1) / self.steps;
                self.reveal(x, drawn, &order, left)
            }
            Sampler::FirstHitting => {
                let mut masked: Vec<usize> = (0..x.len()).filter(|&i| x[i] == self.mask).collect();
                let next = (rng.uniform() * masked.len() as f64) as usize;
                masked.rotate_left(next);
                let left = masked.len().saturating_sub(1);
                self.reveal(x, drawn, &masked, left)
            }
        }
    }

    /// The part of the run that is done before `step`.
    fn part(&self, step: usize) -> f64 {
        step as f64 / self.steps as f64
    }

    /// How many tokens stay masked after `step` of T: floor(n cos(pi r / 2)), r = (step + 1) / T, of the n
    /// that are to be made, at least one until the last step (MaskGIT).
    fn stay(&self, sample: usize, step: usize) -> usize {
        if step + 1 == self.steps {
            return 0;
        }
        let all = self.unknown(sample) as f64;
        (((FRAC_PI_2 * self.part(step + 1)).cos() * all) as usize).max(1)
    }

    /// Reveals the first masked tokens of `order` until `stay` are left, at least one token.
    fn reveal(&self, x: &mut [u32], drawn: &[u32], order: &[usize], stay: usize) -> bool {
        let masked = x.iter().filter(|&&x| x == self.mask).count();
        let mut left = masked.saturating_sub(stay).max(1);
        let mut changed = false;
        for &i in order {
            if left > 0 && x[i] == self.mask {
                x[i] = drawn[i];
                (left, changed) = (left - 1, true);
            }
        }
        changed
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
        let masked = |step: usize| {
            let r = self.part(step);
            self.pace.masked(r, schedule.masked(1.0 - r))
        };
        let last = step + 1 == self.steps;
        let (masked_t, masked_s) = (masked(step), masked(step + 1));
        let alpha_t = 1.0 - masked_t;
        // At alpha_t = 0 nothing is visible.
        let sigma = if alpha_t > 0.0 { eta.min(masked_s / alpha_t) } else { 0.0 };
        let stay = (masked_s - sigma * alpha_t) / masked_t;
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
