//! From the nodes of a tape to launches over root values, with in-place writes granted or refused.

use crate::kernels::Kernel;
use crate::kernels::copy::Copy;
use crate::tape::{Home, Node, Phase, Tape, ValueId};
use std::collections::HashMap;
use std::sync::Arc;

/// A node after aliases are resolved and refused in-place writes became copies.
#[derive(Debug)]
pub(super) struct Flat {
    pub kernel: Arc<dyn Kernel>,
    pub binds: Vec<ValueId>,
    pub writes: Vec<bool>,
    pub phase: Phase,
    pub op: &'static str,
    /// Granted in-place write: the value whose slot the output takes over.
    pub takes: Option<(ValueId, ValueId)>,
}

/// Resolves aliases and decides in-place writes.
pub(super) fn flatten(tape: &Tape) -> Vec<Flat> {
    let mut last_use = HashMap::new();
    for (at, node) in tape.nodes().iter().enumerate() {
        let reads = node.binds.iter().chain(node.init.as_ref().map(|(_, v)| v));
        for &b in reads {
            last_use.insert(tape.root(b), at);
        }
    }
    let mut flat = vec![];
    for (at, node) in tape.nodes().iter().enumerate() {
        let binds: Vec<ValueId> = node.binds.iter().map(|&b| tape.root(b)).collect();
        let takes = node.init.and_then(|(binding, from)| {
            let from = tape.root(from);
            let free = tape.value(from).home == Home::Temp
                && tape.value(binds[binding]).home == Home::Temp
                && last_use[&from] == at
                && !binds.contains(&from);
            if free {
                return Some((from, binds[binding]));
            }
            flat.push(copy_node(tape, node, from, binds[binding]));
            None
        });
        flat.push(Flat {
            kernel: node.kernel.clone(),
            binds,
            writes: node.writes.clone(),
            phase: node.phase,
            op: node.op,
            takes,
        });
    }
    flat
}

fn copy_node(tape: &Tape, node: &Node, from: ValueId, to: ValueId) -> Flat {
    Flat {
        kernel: Arc::new(Copy { n: tape.shape(to).elements(), accum: false }),
        binds: vec![from, to],
        writes: vec![false, true],
        phase: node.phase,
        op: node.op,
        takes: None,
    }
}
