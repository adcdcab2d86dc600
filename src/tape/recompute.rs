//! Regions whose values the backward pass computes again instead of keeping them.
//!
//! Nothing is decided while operations are recorded. When the reverse pass begins, a value that was
//! computed inside of a region and that no launch outside of it reads is *dropped*: a gradient launch
//! that reads it gets a fresh copy. The copy is made by launching its producer again, on fresh copies
//! of what that reads, up to values that are kept; it is made once and lives for as long as gradients
//! read it. Since the planner ends a value's life at its last reader, a dropped value dies in the
//! forward pass. The same kernels compute the same bits from the same bits, random ones included:
//! their numbers are functions of counters.

use super::{Home, Node, Tape, ValueId};
use crate::error::Result;
use crate::recompute::Recompute;
use std::collections::HashMap;
use std::ops::Range;

/// Kernels whose results [`Recompute::Matmuls`] keeps.
const PRODUCTS: [&str; 4] = ["attention", "conv2d", "conv2d_dgrad", "matmul"];

/// A part of the forward pass.
#[derive(Debug, Clone)]
pub struct Region {
    pub name: String,
    /// Its launches, as indices of [`Tape::nodes`].
    pub nodes: Range<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Recomputation {
    policy: Recompute,
    regions: Vec<Region>,
    /// Whether operations are being recorded inside of a region.
    open: bool,
    /// The launch that computes each dropped value; empty before the reverse pass.
    dropped: HashMap<ValueId, usize>,
    /// The copy of a dropped value, and back.
    fresh: HashMap<ValueId, ValueId>,
    original: HashMap<ValueId, ValueId>,
}

impl Tape {
    /// What gradients compute again; to be said before [`Tape::backward`].
    pub fn set_recompute(&mut self, policy: Recompute) {
        self.recomputation.policy = policy;
    }

    /// Begins a region. Regions do not nest: inside of another one this returns `false`, and what
    /// follows belongs to the other one.
    pub(crate) fn enter_region(&mut self, name: &str) -> bool {
        let start = self.nodes.len();
        let this = &mut self.recomputation;
        if std::mem::replace(&mut this.open, true) {
            return false;
        }
        this.regions.push(Region { name: name.into(), nodes: start..start });
        true
    }

    /// Ends the region that [`Tape::enter_region`] began.
    pub(crate) fn leave_region(&mut self) {
        self.recomputation.open = false;
        if let Some(region) = self.recomputation.regions.last_mut() {
            region.nodes.end = self.nodes.len();
        }
    }

    /// The regions of the forward pass, in order.
    pub fn regions(&self) -> &[Region] {
        &self.recomputation.regions
    }

    /// The value that `id` was computed again for; `id` itself if there is none.
    pub fn original(&self, id: ValueId) -> ValueId {
        self.recomputation.original.get(&id).copied().unwrap_or(id)
    }

    /// Decides which values of regions the reverse pass, which begins, will not find.
    pub(super) fn drop_regions(&mut self) {
        if self.recomputation.policy == Recompute::None {
            return;
        }
        let mut dropped = HashMap::new();
        for region in &self.recomputation.regions {
            for at in region.nodes.clone().filter(|&at| self.is_repeatable(&self.nodes[at])) {
                let node = &self.nodes[at];
                let written = node.binds.iter().zip(&node.writes).filter(|(_, w)| **w);
                dropped.extend(written.map(|(&id, _)| (self.root(id), at)));
            }
        }
        let home =
            |at: usize| self.recomputation.regions.iter().position(|r| r.nodes.contains(&at));
        for (at, node) in self.nodes.iter().enumerate() {
            let reads = node.binds.iter().zip(&node.writes).filter(|(_, w)| !**w).map(|(id, _)| id);
            for &id in reads.chain(node.init.iter().map(|(_, from)| from)) {
                let id = self.root(id);
                if dropped.get(&id).is_some_and(|&producer| home(producer) != home(at)) {
                    dropped.remove(&id);
                }
            }
        }
        self.recomputation.dropped = dropped;
    }

    /// From here on launches read what they name again.
    pub(super) fn end_recomputation(&mut self) {
        self.recomputation.dropped.clear();
    }

    /// A launch that can be done again: it writes temporaries, and reads nothing that a step changes.
    fn is_repeatable(&self, node: &Node) -> bool {
        let keeps = self.recomputation.policy == Recompute::Matmuls
            && PRODUCTS.contains(&node.kernel.name());
        let whole = node.binds.iter().zip(&node.writes).all(|(&id, &written)| {
            let home = &self.value(self.root(id)).home;
            if written { *home == Home::Temp } else { !matches!(home, Home::State(_)) }
        });
        whole && !keeps && node.init.is_none()
    }

    /// What a launch that reads `id` is to read: `id`, or a copy of it if it is dropped.
    pub(super) fn at_hand(&mut self, id: ValueId) -> Result<ValueId> {
        let root = self.root(id);
        let Some(&at) = self.recomputation.dropped.get(&root) else { return Ok(id) };
        if let Some(&fresh) = self.recomputation.fresh.get(&root) {
            return Ok(fresh);
        }
        let Node { kernel, mut binds, writes, op, .. } = self.nodes[at].clone();
        for (bind, _) in binds.iter_mut().zip(writes).filter(|(_, written)| *written) {
            let (root, value) = (self.root(*bind), self.value(*bind));
            let (element, shape) = (value.element, value.shape);
            *bind = self.make(Home::Temp, element, shape, false);
            self.recomputation.fresh.insert(root, *bind);
            self.recomputation.original.insert(*bind, root);
        }
        let caller = std::mem::replace(&mut self.op, op);
        self.launch_node(kernel, &binds, None)?;
        self.op = caller;
        Ok(self.recomputation.fresh[&root])
    }
}
