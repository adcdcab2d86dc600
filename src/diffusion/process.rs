//! Corruptions of single tokens, and what they say of a step back.
//!
//! A token of K codes is at time t what it was with probability alpha_t, any one of the codes by
//! chance with beta_t each, and the mask (state K) with gamma_t; alpha_t + K beta_t + gamma_t = 1.
//! That is mask-and-replace (VQ-Diffusion, 2111.14822); D3PM's uniform corruption (2107.03006) has
//! gamma = 0, its absorbing one beta = 0. Everything that a sampler or a loss needs of such a chain is
//! O(K): no K x K matrix is ever formed.

/// Where a token is at one time, given what it was at first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Marginal {
    /// Probability that it was left alone.
    pub alpha: f64,
    /// Probability of each code by chance, its own included.
    pub beta: f64,
    /// Probability of the mask.
    pub gamma: f64,
}

impl Marginal {
    /// Before any corruption.
    pub const CLEAN: Marginal = Marginal { alpha: 1.0, beta: 0.0, gamma: 0.0 };

    /// What alpha and gamma leave is shared by the codes; what may be a rounding of their sum is nothing.
    pub fn new(alpha: f64, gamma: f64, codes: usize) -> Self {
        let rest = 1.0 - alpha - gamma;
        let rest = if rest > 4.0 * f64::EPSILON { rest } else { 0.0 };
        Marginal { alpha, beta: rest / codes as f64, gamma }
    }

    /// q(x_t = `state` | x_0 = `code`); the mask is state `codes`.
    pub fn of(self, state: usize, code: usize, codes: usize) -> f64 {
        match state {
            mask if mask == codes => self.gamma,
            same if same == code => self.alpha + self.beta,
            _ => self.beta,
        }
    }
}

/// The corruption between two times s < t of one chain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    pub earlier: Marginal,
    pub later: Marginal,
    /// A code is left alone: alpha_t / alpha_s.
    pub keep: f64,
    /// A code becomes each code by chance.
    pub replace: f64,
    /// A code becomes the mask.
    pub mask: f64,
}

impl Step {
    pub fn between(earlier: Marginal, later: Marginal, codes: usize) -> Self {
        let keep = if earlier.alpha > 0.0 { later.alpha / earlier.alpha } else { 0.0 };
        let mask = 1.0 - (1.0 - later.gamma) / (1.0 - earlier.gamma);
        // Without chance in either marginal there is none between them, and no rounding of it.
        let replace = match earlier.beta == 0.0 && later.beta == 0.0 {
            true => 0.0,
            false => ((1.0 - keep - mask) / codes as f64).max(0.0),
        };
        Step { earlier, later, keep, replace, mask }
    }

    /// Chance of a masked token to have been a given code by the marginal of s, over that of being
    /// masked at t: what p(x_0) is multiplied by when the mask is left.
    pub fn reveal(self) -> f64 {
        if self.later.gamma > 0.0 { self.mask / self.later.gamma } else { 0.0 }
    }

    /// P(x_s | x_t = `state`) under p(x_0 | x_t) = `p`, [codes], into `out`, [codes + 1], the mask last.
    /// With p a certainty it is q(x_s | x_t, x_0).
    pub fn posterior(self, state: usize, p: &[f64], out: &mut [f64]) {
        let (codes, s) = (p.len(), self.earlier);
        out.fill(0.0);
        if state == codes {
            let total: f64 = p.iter().sum();
            for (out, p) in out.iter_mut().zip(p) {
                *out = self.reveal() * (s.alpha * p + s.beta * total);
            }
            out[codes] = if self.later.gamma > 0.0 { s.gamma / self.later.gamma } else { 0.0 };
            return;
        }
        if self.later.beta == 0.0 {
            // A code that is seen was never anything else, whatever p says.
            out[state] = 1.0;
            return;
        }
        let mut total = 0.0;
        for (k, (w, p)) in out.iter_mut().zip(p).enumerate() {
            *w = p / self.later.of(state, k, codes);
            total += *w;
        }
        for (k, w) in out[..codes].iter_mut().enumerate() {
            let back = self.replace + if k == state { self.keep } else { 0.0 };
            *w = back * (s.alpha * *w + s.beta * total);
        }
    }

    /// A draw of x_s given x_t = `state` and x_0 = `code`, among `codes`, from one uniform number in [0, 1).
    /// With x_0 ~ p(x_0 | x_t) it is one from [`posterior`](Self::posterior): that is a mean over x_0.
    pub fn draw(self, state: usize, code: usize, codes: usize, u: f64) -> usize {
        let s = self.earlier;
        if state < codes && self.later.beta == 0.0 {
            return state;
        }
        // The mask, the code itself and the one that is seen one by one; all others are alike.
        let chance = |k: usize| {
            let back = match (state == codes, k == state) {
                (true, _) => self.reveal(),
                (false, true) => self.replace + self.keep,
                (false, false) => self.replace,
            };
            let from = match state == codes {
                true => 1.0,
                false => self.later.of(state, code, codes),
            };
            back * (s.beta + if k == code { s.alpha } else { 0.0 }) / from
        };
        let mut left = u;
        let mut others = codes - 1;
        if state == codes {
            left -= s.gamma / self.later.gamma;
            if left < 0.0 {
                return codes;
            }
        } else if state != code {
            left -= chance(state);
            if left < 0.0 {
                return state;
            }
            others -= 1;
        }
        left -= chance(code);
        if left < 0.0 || others == 0 {
            return code;
        }
        let other = |k: usize| k != code && k != state;
        let each = chance((0..codes).find(|&k| other(k)).unwrap_or(code));
        // What rounding leaves over at the end goes to the code.
        let place = (left / each) as usize;
        if each > 0.0 && place < others {
            return (0..codes).filter(|&k| other(k)).nth(place).unwrap_or(code);
        }
        code
    }
}
