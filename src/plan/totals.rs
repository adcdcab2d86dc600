//! What the launches of a tape cost: how `plan.txt` shows a list before and after joining.

use super::compile::{Planned, lifetimes};
use super::dump;
use super::flatten::Flat;
use super::halves::Halves;
use super::slots::assign;
use crate::device::{BufferId, Launch, Range};
use crate::error::Result;
use crate::tape::{Tape, ValueId};
use std::collections::HashMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Totals {
    pub launches: usize,
    pub barriers: usize,
    /// Bytes that the launches read and write.
    pub bytes: u64,
    /// Bytes of the slots.
    pub slot_bytes: u64,
}

impl Totals {
    /// `places`: where everything but the temporaries lives.
    pub fn of(tape: &Tape, nodes: &[Flat], places: &HashMap<ValueId, Range>) -> Result<Totals> {
        let (intervals, owners) = lifetimes(tape, nodes, &Halves::default())?;
        let (slot_of, words) = assign(&intervals);
        let place = |id: &ValueId| match owners.get(id) {
            // No real buffer has so large a number.
            Some(&interval) => {
                let buffer = BufferId(u32::MAX - slot_of[interval] as u32);
                Range { buffer, offset: 0, len: tape.shape(*id).elements() }
            }
            None => places[id],
        };
        let planned: Vec<Planned> = nodes
            .iter()
            .map(|node| Planned {
                launch: Launch {
                    kernel: node.kernel.clone(),
                    binds: node.binds.iter().map(place).collect(),
                },
                writes: node.writes.clone(),
                op: node.op,
            })
            .collect();
        Ok(Totals {
            launches: nodes.len(),
            barriers: dump::barriers(planned.iter()),
            bytes: nodes.iter().map(|n| n.kernel.cost().bytes).sum(),
            slot_bytes: words.iter().map(|&w| w as u64 * 4).sum(),
        })
    }
}
