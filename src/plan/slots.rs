//! Lifetimes to slots, greedy by size: the largest value first, into the first slot where it meets
//! no value alive at the same time (the "greedy by size" rule of Pisarchyk & Lee, "Efficient memory
//! management for deep neural net inference", 2020). A slot is as large as its first value.

/// One value, or several that share storage: words, and the first and last node that touch it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    pub words: usize,
    pub first: usize,
    pub last: usize,
}

impl Interval {
    /// Values that meet in one node overlap: a kernel cannot read the slot it writes.
    pub fn overlaps(&self, other: &Interval) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Slot of every interval, and words of every slot.
pub fn assign(intervals: &[Interval]) -> (Vec<usize>, Vec<usize>) {
    let mut order: Vec<usize> = (0..intervals.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(intervals[i].words), intervals[i].first, i));
    let mut slot_of = vec![usize::MAX; intervals.len()];
    let mut words: Vec<usize> = vec![];
    let mut members: Vec<Vec<usize>> = vec![];
    for i in order {
        let free =
            members.iter().position(|m| m.iter().all(|&j| !intervals[i].overlaps(&intervals[j])));
        let slot = free.unwrap_or_else(|| {
            words.push(intervals[i].words);
            members.push(vec![]);
            words.len() - 1
        });
        members[slot].push(i);
        slot_of[i] = slot;
    }
    (slot_of, words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Rng, Stream};

    #[test]
    fn chain_needs_two() {
        let chain: Vec<_> = (0..10).map(|i| Interval { words: 8, first: i, last: i + 1 }).collect();
        assert_eq!(assign(&chain).1, vec![8, 8]);
    }

    /// Random graphs never put two live values in one slot, nor a value in too small a slot.
    #[test]
    fn random_lifetimes() {
        let mut rng = Rng::new(3, Stream::Test, 0);
        for _ in 0..200 {
            let n = 1 + rng.below(60) as usize;
            let intervals: Vec<_> = (0..n)
                .map(|_| {
                    let first = rng.below(50) as usize;
                    let (words, length) = (1 + rng.below(1000) as usize, rng.below(12) as usize);
                    Interval { words, first, last: first + length }
                })
                .collect();
            let (slot_of, words) = assign(&intervals);
            for (i, a) in intervals.iter().enumerate() {
                assert!(a.words <= words[slot_of[i]]);
                for (j, b) in intervals.iter().enumerate().skip(i + 1) {
                    assert!(slot_of[i] != slot_of[j] || !a.overlaps(b), "{a:?} {b:?}");
                }
            }
        }
    }
}
