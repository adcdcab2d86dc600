//! The scalar ring: what recent steps reported, kept on the device and read every few steps.

use super::compile::Planned;
use super::optimise::control_words;
use super::store::Store;
use crate::device::{Launch, Range};
use crate::error::{Error, Result};
use crate::kernels::ring_write::RingWrite;
use crate::tape::{LOSS_SCALE, Precision};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows of the scalar ring: steps between two reads of the losses, at most.
pub const RING_ROWS: usize = 64;
/// Rows of (all sums | control words | scale of the loss) of the last steps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ring {
    rows: Range,
    control: Range,
    loss_scale: Option<Range>,
}

/// What one step reported.
#[derive(Debug, Clone, PartialEq)]
pub struct RingRow {
    /// Sums over lanes, by name.
    pub scalars: Vec<(String, f32)>,
    /// Gradient norm, 1 if the step was applied, clip factor (divided by the scale of the loss),
    /// steps skipped so far.
    pub control: [f32; 4],
    /// In mixed precision: the scale of the loss for the step that follows.
    pub loss_scale: Option<f32>,
}

impl Ring {
    /// Appends the launches that keep the sums and control words of this step.
    pub fn append(
        store: &mut Store,
        sums: Option<Range>,
        precision: Precision,
        group: &str,
        update: &mut Vec<Planned>,
    ) -> Result<Option<Ring>> {
        let Some(sums) = sums.filter(|s| s.len > 0) else { return Ok(None) };
        let control = control_words(store, group)?;
        let scale = match precision {
            Precision::F32 => None,
            Precision::Mixed => Some(store.state(LOSS_SCALE, 1)?),
        };
        let mut keep = |store: &mut Store, source: Range| -> Result<Range> {
            let words = source.len * RING_ROWS;
            let rows =
                Range { buffer: store.device.create_buffer(words, "ring")?, offset: 0, len: words };
            update.push(Planned {
                launch: Launch {
                    kernel: Arc::new(RingWrite { n: source.len, rows: RING_ROWS }),
                    binds: vec![source, rows],
                },
                writes: vec![false, true],
                op: "ring",
            });
            Ok(rows)
        };
        let rows = keep(store, sums)?;
        let control = keep(store, control)?;
        let loss_scale = scale.map(|scale| keep(store, scale)).transpose()?;
        Ok(Some(Ring { rows, control, loss_scale }))
    }

    /// See `Plan::read_ring`; `sums` are the ranges of the named sums.
    pub fn read(
        &self,
        store: &mut Store,
        sums: &BTreeMap<String, Range>,
        steps: std::ops::Range<u64>,
    ) -> Result<Vec<RingRow>> {
        if steps.end - steps.start > RING_ROWS as u64 {
            return Err(Error::failed(format!("the ring holds {RING_ROWS} steps, not {steps:?}")));
        }
        let n = self.rows.len / RING_ROWS;
        let rows = store.read_f32(self.rows)?;
        let control = store.read_f32(self.control)?;
        let scales = self.loss_scale.map(|range| store.read_f32(range)).transpose()?;
        let scalars = |row: usize| {
            let named = sums.iter().filter(|(_, r)| r.len == 1);
            named.map(|(name, r)| (name.clone(), rows[row * n + r.offset])).collect()
        };
        let read = |step: u64| {
            let row = (step % RING_ROWS as u64) as usize;
            let control = std::array::from_fn(|i| control[row * 4 + i]);
            let loss_scale = scales.as_ref().map(|s| s[row]);
            RingRow { scalars: scalars(row), control, loss_scale }
        };
        Ok(steps.map(read).collect())
    }
}
