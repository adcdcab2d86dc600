//! A plan as text: one line a launch, with the barriers a hazard-tracking device will insert and an
//! `h` behind ranges of halves.

use super::compile::{PlanStats, Planned};
use super::store::Store;
use super::totals::Totals;
use crate::device::BufferId;
use crate::error::Result;
use crate::shader;
use crate::tape::Tape;
use std::collections::HashMap;
use std::fmt::Write;

/// Whether a launch must wait for an earlier one of the same list. wgpu tracks a whole buffer's
/// usage: a barrier falls where a buffer changes between read and written, or is written again.
struct Hazards {
    /// Buffers touched since the last barrier, and whether they were written.
    open: HashMap<BufferId, bool>,
}

impl Hazards {
    fn new() -> Self {
        Hazards { open: HashMap::new() }
    }

    fn barrier_before(&mut self, planned: &Planned) -> bool {
        let uses = || planned.launch.binds.iter().map(|r| r.buffer).zip(&planned.writes);
        let hazard = uses().any(|(b, &w)| match self.open.get(&b) {
            Some(&written) => written || w,
            None => false,
        });
        if hazard {
            self.open.clear();
        }
        for (buffer, &w) in uses() {
            let entry = self.open.entry(buffer).or_insert(false);
            *entry |= w;
        }
        hazard
    }
}

pub(super) fn barriers<'a>(list: impl Iterator<Item = &'a Planned>) -> usize {
    let mut hazards = Hazards::new();
    list.filter(|p| hazards.barrier_before(p)).count()
}

pub(super) fn text(
    store: &Store,
    tape: &Tape,
    lane: &[Planned],
    update: &[Planned],
    stats: &PlanStats,
) -> String {
    let mut out = String::new();
    let mut hazards = Hazards::new();
    for (title, list) in [("lane", lane), ("update", update)] {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "[{title}] {} launches", list.len());
        for (i, planned) in list.iter().enumerate() {
            let kernel = &planned.launch.kernel;
            let bar = if hazards.barrier_before(planned) { '|' } else { ' ' };
            let binds: Vec<_> = planned
                .launch
                .binds
                .iter()
                .zip(&planned.writes)
                .enumerate()
                .map(|(i, (r, w))| {
                    let mark = if *w { "*" } else { "" };
                    let half = if kernel.half() >> i & 1 == 1 { "h" } else { "" };
                    format!("{mark}b{}+{}:{}{half}", r.buffer.0, r.offset, r.len)
                })
                .collect();
            let [x, y, z] = kernel.grid();
            let variant = match kernel.variant() {
                v if v == "baseline" => String::new(),
                v => format!(" [{v}]"),
            };
            let _ = writeln!(
                out,
                "{i:4} {bar} {:14} {:20} {x}x{y}x{z} {}{variant}",
                planned.op,
                kernel.name(),
                binds.join(" ")
            );
        }
    }
    let segments: usize = store.segments.iter().map(|s| s.words).sum();
    let _ = writeln!(
        out,
        "{} values on the tape; {} launches, {} barriers; {:.2} GFLOP\n\
         {} slots, {:.1} MiB for {:.1} MiB of temporaries; {} parameters in {} segments, {:.1} MiB each kind",
        tape.values().count(),
        stats.lane_launches + stats.update_launches,
        stats.barriers,
        stats.flops as f64 / 1e9,
        stats.slots,
        mib(stats.slot_bytes),
        mib(stats.tensor_bytes),
        store.table().elements(),
        store.segments.len(),
        mib(segments as u64 * 4),
    );
    if stats.halves > 0 {
        let _ = writeln!(
            out,
            "{} values as f16 (h: words of two halves); without them the slots would be {:.1} MiB",
            stats.halves,
            mib(stats.slot_bytes_f32),
        );
    }
    out
}

/// Of a dump and of what its lines leave out: constants and text of the shaders, which the naive and
/// CPU forms share, and `dims`.
pub(super) fn hash<'a>(text: &str, list: impl Iterator<Item = &'a Planned>) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    for planned in list {
        let kernel = &*planned.launch.kernel;
        hasher.update(shader::source(kernel)?.as_bytes());
        hasher.update(bytemuck::cast_slice(&kernel.dims()));
    }
    hasher.update(text.as_bytes());
    Ok(hasher.finalize().to_hex()[..16].to_string())
}

/// What was joined, and what the launches of the tape cost before and after.
pub(super) fn joined(done: &[String], before: Totals, after: Totals) -> String {
    let mut out = format!(
        "[joined] {} -> {} launches, {} -> {} barriers, {:.1} -> {:.1} MiB of traffic, \
         {:.1} -> {:.1} MiB of slots\n",
        before.launches,
        after.launches,
        before.barriers,
        after.barriers,
        mib(before.bytes),
        mib(after.bytes),
        mib(before.slot_bytes),
        mib(after.slot_bytes),
    );
    for what in done {
        let _ = writeln!(out, "  {what}");
    }
    out
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
