//! Lanes: a batch may be computed as several micro-batches whose gradients and sums are added in a
//! fixed binary tree, so that how lanes are spread over time (or, later, over machines) does not
//! change a bit.
//!
//! The tree is walked like a binary counter: after lane i, while bit b of i is set, the partial sum
//! kept at level b is added; then the result is kept at the first clear level. The last lane's
//! result is never kept but folded through all occupied levels, lowest first.

use super::store::Store;
use crate::device::{Launch, ListId, Range};
use crate::error::Result;
use crate::kernels::copy::Copy;
use std::sync::Arc;

/// Ids of the lists of one submission, without an allocation.
#[derive(Debug)]
pub(super) struct Lists {
    ids: [ListId; 40],
    len: usize,
}

impl Lists {
    pub fn starting(first: ListId) -> Self {
        Lists { ids: [first; 40], len: 1 }
    }
    /// At most lane + one list a level + keep + update, and there are at most 32 levels.
    pub fn push(&mut self, id: ListId) {
        self.ids[self.len] = id;
        self.len += 1;
    }
    pub fn as_slice(&self) -> &[ListId] {
        &self.ids[..self.len]
    }
}

/// Prepared merge lists.
#[derive(Debug)]
pub(super) struct Merge {
    lanes: usize,
    /// `add[b]`: the running sums += level b. `keep[b]`: level b = the running sums.
    add: Vec<ListId>,
    keep: Vec<ListId>,
}

/// Which levels to add after `lane`, lowest first, and the level that then keeps the result.
fn schedule(lane: usize, lanes: usize) -> (impl Iterator<Item = usize>, Option<usize>) {
    let last = lane + 1 == lanes;
    let free = lane.trailing_ones() as usize;
    let top = if last { usize::BITS as usize } else { free };
    let levels = (0..top).filter(move |b| lane >> b & 1 == 1);
    (levels, (!last).then_some(free))
}

impl Merge {
    /// `group`: the parameters whose gradients are merged; `sums`: the plan's named sums, likewise.
    pub fn new(store: &mut Store, group: &str, sums: Option<Range>, lanes: usize) -> Result<Self> {
        let mut merge = Merge { lanes, add: vec![], keep: vec![] };
        let levels = (usize::BITS - (lanes - 1).leading_zeros()) as usize;
        let mut running: Vec<Range> = store
            .group_segments(group)
            .iter()
            .map(|s| Range { buffer: s.grad, offset: 0, len: s.words })
            .collect();
        running.extend(sums);
        for level in 0..levels {
            let mut kept = vec![];
            for range in &running {
                let buffer =
                    store.device.create_buffer(range.len, &format!("lane level {level}"))?;
                kept.push(Range { buffer, offset: 0, len: range.len });
            }
            let add = moves(&kept, &running, true);
            let keep = moves(&running, &kept, false);
            merge.add.push(store.device.prepare(&add, &mut |_, _| {})?);
            merge.keep.push(store.device.prepare(&keep, &mut |_, _| {})?);
        }
        Ok(merge)
    }

    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// Appends what follows lane number `lane`.
    pub fn after_lane(&self, lane: usize, lists: &mut Lists) {
        let (levels, keep) = schedule(lane, self.lanes);
        for level in levels {
            lists.push(self.add[level]);
        }
        if let Some(level) = keep {
            lists.push(self.keep[level]);
        }
    }
}

fn moves(from: &[Range], to: &[Range], accum: bool) -> Vec<Launch> {
    let pairs = from.iter().zip(to);
    pairs
        .map(|(&a, &b)| Launch { kernel: Arc::new(Copy { n: a.len, accum }), binds: vec![a, b] })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks the schedule with sets of lanes instead of sums.
    fn tree(lanes: usize) -> String {
        let mut kept: Vec<String> = vec![String::new(); 8];
        let mut running = String::new();
        for lane in 0..lanes {
            running = lane.to_string();
            let (levels, keep) = schedule(lane, lanes);
            for level in levels {
                running = format!("({}+{running})", kept[level]);
            }
            if let Some(level) = keep {
                kept[level] = running.clone();
            }
        }
        running
    }

    #[test]
    fn is_a_binary_tree_over_the_lanes_in_order() {
        assert_eq!(tree(1), "0");
        assert_eq!(tree(2), "(0+1)");
        assert_eq!(tree(3), "((0+1)+2)");
        assert_eq!(tree(4), "((0+1)+(2+3))");
        assert_eq!(tree(7), "(((0+1)+(2+3))+((4+5)+6))");
    }
}
