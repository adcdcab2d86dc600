//! The neighbour model: p(code | left, up), interpolated. A diffusion whose bits per token on
//! held-out codes are not below this has learned nothing beyond the neighbours.
//!
//! p = l3 p(x | left, up) + l2 p(x | left) + l2' p(x | up) + l1 p(x) + l0 / K, with counts from the
//! training codes and weights fitted by expectation maximisation on a tenth of them held back
//! (deleted interpolation, Jelinek & Mercer 1980).

use std::collections::HashMap;

/// Contexts of the five terms: (left, up), left, up, nothing, uniform.
const TERMS: usize = 5;
/// Every tenth grid fits the weights.
const HELD_BACK: usize = 10;
const EM_ROUNDS: usize = 30;

#[derive(Debug, Clone)]
pub struct NeighbourModel {
    codes: usize,
    weights: [f64; TERMS],
    counts: HashMap<(u8, u32, u32), Counts>,
}

#[derive(Debug, Clone, Default)]
struct Counts {
    total: f64,
    of: HashMap<u32, f64>,
}

/// Index, left and up neighbour (`codes` beyond the border) of every token of a grid.
fn contexts(grid: &[u32], cols: usize, codes: usize) -> impl Iterator<Item = (u32, u32, u32)> + '_ {
    let border = codes as u32;
    grid.iter().enumerate().map(move |(i, &x)| {
        let left = if i % cols > 0 { grid[i - 1] } else { border };
        let up = if i >= cols { grid[i - cols] } else { border };
        (x, left, up)
    })
}

fn keys(left: u32, up: u32) -> [(u8, u32, u32); TERMS - 1] {
    [(0, left, up), (1, left, 0), (2, up, 0), (3, 0, 0)]
}

impl NeighbourModel {
    /// `grids`: whole grids of `length` codes in 0..codes, `cols` to a row.
    pub fn fit(grids: &[u32], length: usize, cols: usize, codes: usize) -> Self {
        let mut model =
            NeighbourModel { codes, weights: [1.0 / TERMS as f64; TERMS], counts: HashMap::new() };
        let all: Vec<&[u32]> = grids.chunks_exact(length).collect();
        let back = |i: &usize| i % HELD_BACK == HELD_BACK - 1;
        for grid in (0..all.len()).filter(|i| !back(i)).map(|i| all[i]) {
            model.count(grid, cols);
        }
        let held: Vec<[f64; TERMS]> = (0..all.len())
            .filter(back)
            .flat_map(|i| contexts(all[i], cols, codes))
            .map(|(x, left, up)| model.terms(x, left, up))
            .collect();
        for _ in 0..if held.is_empty() { 0 } else { EM_ROUNDS } {
            let mut share = [0.0; TERMS];
            for terms in &held {
                let p: f64 = terms.iter().zip(&model.weights).map(|(t, w)| t * w).sum();
                for k in 0..TERMS {
                    share[k] += model.weights[k] * terms[k] / p / held.len() as f64;
                }
            }
            model.weights = share;
        }
        // The weights stand; the counts may use everything.
        for grid in (0..all.len()).filter(back).map(|i| all[i]) {
            model.count(grid, cols);
        }
        model
    }

    fn count(&mut self, grid: &[u32], cols: usize) {
        for (x, left, up) in contexts(grid, cols, self.codes) {
            for key in keys(left, up) {
                let counts = self.counts.entry(key).or_default();
                counts.total += 1.0;
                *counts.of.entry(x).or_default() += 1.0;
            }
        }
    }

    fn terms(&self, x: u32, left: u32, up: u32) -> [f64; TERMS] {
        let mut out = [1.0 / self.codes as f64; TERMS];
        for (term, key) in out.iter_mut().zip(keys(left, up)) {
            // A context never seen says nothing: uniform.
            if let Some(c) = self.counts.get(&key) {
                *term = c.of.get(&x).copied().unwrap_or(0.0) / c.total;
            }
        }
        out
    }

    /// Cross-entropy of `grids` in bits per token.
    pub fn bits_per_token(&self, grids: &[u32], length: usize, cols: usize) -> f64 {
        let mut bits = 0.0;
        let mut n = 0usize;
        for grid in grids.chunks_exact(length) {
            for (x, left, up) in contexts(grid, cols, self.codes) {
                let terms = self.terms(x, left, up);
                let p: f64 = terms.iter().zip(&self.weights).map(|(t, w)| t * w).sum();
                bits -= p.log2();
                n += 1;
            }
        }
        bits / n.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Rng, Stream};

    /// A chain where every code repeats its left neighbour with probability 0.9: the entropy rate
    /// is known, and independent codes cost log2 K.
    #[test]
    fn finds_a_known_entropy() {
        let (k, length) = (8u32, 64);
        let make = |seed: u64, grids: usize, copy: f64| -> Vec<u32> {
            let mut rng = Rng::new(seed, Stream::Test, 0);
            let mut out = vec![];
            for _ in 0..grids {
                let mut last = rng.below(k);
                for i in 0..length {
                    if i % 8 == 0 || rng.uniform() >= copy {
                        last = rng.below(k);
                    }
                    out.push(last);
                }
            }
            out
        };
        let p: f64 = 0.9 + 0.1 / 8.0;
        let q: f64 = 0.1 / 8.0;
        let inside = -p * p.log2() - 7.0 * q * q.log2();
        let want = (3.0 + 7.0 * inside) / 8.0;
        let model = NeighbourModel::fit(&make(1, 400, 0.9), length, 8, 8);
        let got = model.bits_per_token(&make(2, 400, 0.9), length, 8);
        assert!(got >= want - 0.03 && got < want + 0.03, "{got} {want}");
        let model = NeighbourModel::fit(&make(3, 400, 0.0), length, 8, 8);
        let got = model.bits_per_token(&make(4, 400, 0.0), length, 8);
        assert!((got - 3.0).abs() < 0.02, "{got}");
    }
}
