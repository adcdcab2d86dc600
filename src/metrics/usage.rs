//! How much of a codebook is used, counted over a whole split.
//!
//! A perplexity per batch depends on the batch size and misleads; so does a share of used codes
//! without the number of tokens it was counted on. N tokens drawn uniformly from K codes hit only
//! `K (1 - (1 - 1/K)^N)` distinct ones: at N = K that is 63 %.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A code is active from this share of the uniform frequency on.
const ACTIVE: f64 = 0.08;
/// A statement on utilisation needs at least this expected share of distinct codes.
const ENOUGH_TOKENS: f64 = 0.9;

/// Counts of every code over a split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeUsage {
    counts: Vec<u64>,
}

impl CodeUsage {
    /// No tokens yet, for a codebook of `codes` entries.
    pub fn new(codes: usize) -> Self {
        CodeUsage { counts: vec![0; codes] }
    }

    /// Counts a batch. An index outside the codebook is an error and leaves the counts as they
    /// were.
    pub fn add(&mut self, indices: &[u32]) -> Result<()> {
        let codes = self.counts.len();
        if let Some(bad) = indices.iter().find(|&&i| i as usize >= codes) {
            return Err(Error::failed(format!("code {bad} of a codebook with {codes} entries")));
        }
        indices.iter().for_each(|&i| self.counts[i as usize] += 1);
        Ok(())
    }

    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The codes never chosen, ascending.
    pub fn dead_codes(&self) -> Vec<u32> {
        (0..).zip(&self.counts).filter(|(_, c)| **c == 0).map(|(code, _)| code).collect()
    }

    pub fn summary(&self) -> Usage {
        let codes = self.counts.len() as f64;
        let tokens: u64 = self.counts.iter().sum();
        let n = tokens as f64;
        let unique = self.counts.iter().filter(|&&c| c > 0).count();
        let entropy: f64 = self
            .counts
            .iter()
            .filter(|&&c| c > 0)
            .map(|&c| -(c as f64 / n) * (c as f64 / n).ln())
            .sum();
        let perplexity = if tokens == 0 { 0.0 } else { entropy.exp() };
        // (1 - 1/K)^N through logarithms: exact enough for large K, where 1 - 1/K rounds to 1.
        let expected = codes * -(n * (-1.0 / codes).ln_1p()).exp_m1();
        let expected = if tokens == 0 { 0.0 } else { expected };
        let active = self.counts.iter().filter(|&&c| c as f64 >= ACTIVE * n / codes && c > 0);
        let most = self.counts.iter().copied().max().unwrap_or(0) as f64;
        let share = |x: f64, of: f64| if of > 0.0 { x / of } else { 0.0 };
        Usage {
            codes: self.counts.len(),
            tokens,
            unique,
            unique_share: share(unique as f64, codes),
            perplexity,
            perplexity_share: share(perplexity, codes),
            entropy_bits: if tokens == 0 { 0.0 } else { entropy / std::f64::consts::LN_2 },
            expected_unique: expected,
            coverage: share(unique as f64, expected),
            active_share: share(active.count() as f64, codes),
            dead: self.counts.len() - unique,
            commonest_share: share(most, n),
        }
    }
}

/// Counts of each codebook of a quantiser with several: the levels of a residual quantiser, or the
/// codebooks that share the channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadUsage {
    heads: Vec<CodeUsage>,
}

impl HeadUsage {
    /// One codebook of so many entries a head.
    pub fn new(codes: &[usize]) -> Self {
        HeadUsage { heads: codes.iter().map(|&k| CodeUsage::new(k)).collect() }
    }

    /// Counts a batch of one head.
    pub fn add(&mut self, head: usize, indices: &[u32]) -> Result<()> {
        let heads = self.heads.len();
        match self.heads.get_mut(head) {
            Some(usage) => usage.add(indices).map_err(|e| e.at(format!("codebook {head}"))),
            None => Err(Error::failed(format!("codebook {head} of a quantiser with {heads}"))),
        }
    }

    pub fn heads(&self) -> &[CodeUsage] {
        &self.heads
    }

    /// The figures of each head, in order.
    pub fn summaries(&self) -> Vec<Usage> {
        self.heads.iter().map(CodeUsage::summary).collect()
    }

    /// Empirical entropy of all heads together in bits a position, as if they were independent: no
    /// more can be said from their separate counts, and the joint entropy is at most this.
    pub fn entropy_bits(&self) -> f64 {
        self.heads.iter().map(|head| head.summary().entropy_bits).sum()
    }
}

/// The figures of a split. Shares are between 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// K.
    pub codes: usize,
    /// N.
    pub tokens: u64,
    pub unique: usize,
    /// unique / K.
    pub unique_share: f64,
    /// exp(H), H the entropy of the code frequencies in nats.
    pub perplexity: f64,
    pub perplexity_share: f64,
    /// H in bits a token: the rate an ideal entropy coder without context would reach, at most
    /// log2 K.
    pub entropy_bits: f64,
    /// Distinct codes that N uniform draws would hit.
    pub expected_unique: f64,
    /// unique / expected; above 1 where the codes are more evenly used than by chance.
    pub coverage: f64,
    /// Codes with at least 8 % of the uniform frequency.
    pub active_share: f64,
    pub dead: usize,
    pub commonest_share: f64,
}

/// The verdict of a gate on utilisation; the worst is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    Passed,
    Failed,
    /// Too few tokens: even uniform use would leave more than a tenth of the codes unseen.
    Refused,
}

impl Usage {
    /// Would uniform draws of as many tokens hit at least nine tenths of the codes?
    pub fn enough_tokens(&self) -> bool {
        self.codes > 0 && self.expected_unique >= ENOUGH_TOKENS * self.codes as f64
    }

    /// Is unique / K above `threshold`?
    pub fn gate(&self, threshold: f64) -> Gate {
        if !self.enough_tokens() {
            Gate::Refused
        } else if self.unique_share > threshold {
            Gate::Passed
        } else {
            Gate::Failed
        }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| 100.0 * share;
        write!(
            f,
            "codes {}/{} ({:.1} %) over {} tokens, perplexity {:.1} ({:.1} %), coverage {:.2} \
             (expected {:.1}), active {:.1} %, dead {}, commonest {:.1} %",
            self.unique,
            self.codes,
            percent(self.unique_share),
            self.tokens,
            self.perplexity,
            percent(self.perplexity_share),
            self.coverage,
            self.expected_unique,
            percent(self.active_share),
            self.dead,
            percent(self.commonest_share)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(codes: usize, indices: &[u32]) -> Usage {
        let mut usage = CodeUsage::new(codes);
        usage.add(indices).unwrap();
        usage.summary()
    }

    /// Counted by hand: 4 codes, frequencies 1/2, 1/4, 1/4, 0.
    #[test]
    fn by_hand() {
        let u = usage(4, &[0, 1, 0, 2]);
        assert_eq!((u.unique, u.unique_share, u.dead, u.tokens), (3, 0.75, 1, 4));
        assert_eq!((u.active_share, u.commonest_share), (0.75, 0.5));
        // H = 1.5 bits; two roundings of exp and ln.
        assert!((u.perplexity - 2f64.powf(1.5)).abs() <= 4.0 * f64::EPSILON * u.perplexity);
        assert!((u.entropy_bits - 1.5).abs() <= 4.0 * f64::EPSILON);
        // 4 (1 - (3/4)^4)
        assert!((u.expected_unique - 2.734_375).abs() <= 16.0 * f64::EPSILON);
        assert!((u.coverage - 3.0 / 2.734_375).abs() <= 16.0 * f64::EPSILON);
        assert_eq!(u.gate(0.5), Gate::Refused);
    }

    #[test]
    fn extremes() {
        let one = usage(8, &[5; 1000]);
        assert_eq!((one.perplexity, one.unique, one.commonest_share), (1.0, 1, 1.0));
        assert_eq!(one.gate(0.8), Gate::Failed);
        let all: Vec<u32> = (0..8).cycle().take(8000).collect();
        let all = usage(8, &all);
        assert_eq!((all.unique_share, all.active_share, all.dead), (1.0, 1.0, 0));
        assert!((all.perplexity_share - 1.0).abs() <= 8.0 * f64::EPSILON);
        assert_eq!(all.gate(0.8), Gate::Passed);
        let none = usage(8, &[]);
        assert_eq!((none.perplexity, none.coverage, none.active_share), (0.0, 0.0, 0.0));
        assert_eq!(none.gate(0.0), Gate::Refused);
        assert!(CodeUsage::new(8).add(&[3, 8]).is_err());
    }

    /// The expected shares published for K = 8192.
    #[test]
    fn expected_distinct() {
        for (n, percent) in [(8192, 63.0), (16_384, 86.5), (65_536, 99.97)] {
            let u = usage(8192, &vec![0; n]);
            let share = 100.0 * u.expected_unique / 8192.0;
            // Half a unit of the last published digit.
            let half = if percent > 99.0 {
                0.005
            } else if percent > 80.0 {
                0.05
            } else {
                0.5
            };
            assert!((share - percent).abs() <= half, "{n}: {share}");
        }
    }

    /// 100 tokens on 10 codes: uniform is 10, so 0.8 is the least active count; of 125 exactly 1 is.
    #[test]
    fn active_codes() {
        let mut indices = vec![0; 99];
        indices.push(1);
        assert_eq!(usage(10, &indices).active_share, 0.2);
        indices.extend([0; 25]);
        assert_eq!(usage(10, &indices).active_share, 0.2);
        indices.extend(vec![0; 900]);
        assert_eq!(usage(10, &indices).active_share, 0.1);
    }

    #[test]
    fn heads() {
        let mut heads = HeadUsage::new(&[2, 4]);
        heads.add(0, &[0, 1].repeat(50)).unwrap();
        heads.add(1, &[0, 1, 2, 3].repeat(50)).unwrap();
        assert!((heads.entropy_bits() - 3.0).abs() <= 8.0 * f64::EPSILON);
        assert!(heads.add(2, &[0]).is_err());
        let error = heads.add(1, &[4]).unwrap_err().to_string();
        assert!(error.contains("codebook 1"), "{error}");
        assert_eq!(heads.heads()[1].counts(), [50; 4]);
        let mut heads = HeadUsage::new(&[2, 4]);
        heads.add(0, &[0, 1].repeat(50)).unwrap();
        heads.add(1, &[3; 200]).unwrap();
        assert_eq!(heads.summaries()[1].unique, 1);
    }
}
