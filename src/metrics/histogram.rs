//! How a codebook's use is spread: the long tail that the five figures of `Usage` summarise.

use serde::{Deserialize, Serialize};

use super::usage::CodeUsage;

/// Codes by how often they were chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageHistogram {
    /// Counts of all codes, the commonest first; K of them.
    pub sorted: Vec<u64>,
    /// Codes never chosen.
    pub dead: u64,
    /// `bins[b]` codes were chosen 2^b to 2^(b+1) - 1 times; up to the bin of the commonest.
    pub bins: Vec<u64>,
}

impl CodeUsage {
    pub fn histogram(&self) -> UsageHistogram {
        let mut sorted = self.counts().to_vec();
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        let mut bins =
            vec![
                0;
                sorted.first().map_or(0, |most| most.checked_ilog2().map_or(0, |b| b as usize + 1))
            ];
        let logs = sorted.iter().filter_map(|c| c.checked_ilog2());
        logs.for_each(|b| bins[b as usize] += 1);
        let dead = sorted.iter().filter(|&&c| c == 0).count() as u64;
        UsageHistogram { sorted, dead, bins }
    }
}

impl UsageHistogram {
    /// Share of all tokens that the `n` commonest codes take; 0 without tokens.
    pub fn top_share(&self, n: usize) -> f64 {
        let total: u64 = self.sorted.iter().sum();
        let top: u64 = self.sorted.iter().take(n).sum();
        if total == 0 { 0.0 } else { top as f64 / total as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let mut usage = CodeUsage::new(8);
        for (code, count) in [(0, 1), (1, 8), (2, 3), (4, 2), (5, 7), (7, 1)] {
            usage.add(&vec![code; count]).unwrap();
        }
        let histogram = usage.histogram();
        assert_eq!(histogram.sorted, [8, 7, 3, 2, 1, 1, 0, 0]);
        // 1 1 | 2 3 | 7 | 8
        assert_eq!((histogram.dead, &histogram.bins[..]), (2, &[2, 2, 1, 1][..]));
        assert_eq!(histogram.bins.iter().sum::<u64>() + histogram.dead, 8);
        assert_eq!((histogram.top_share(2), histogram.top_share(99)), (15.0 / 22.0, 1.0));
        assert_eq!(usage.dead_codes(), [3, 6]);
    }

    #[test]
    fn no_tokens() {
        let histogram = CodeUsage::new(3).histogram();
        assert_eq!((histogram.dead, histogram.bins.len(), histogram.top_share(1)), (3, 0, 0.0));
        assert_eq!(CodeUsage::new(0).histogram().sorted, [0; 0]);
    }
}
