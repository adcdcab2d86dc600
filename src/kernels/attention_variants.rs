//! Variants of the attention kernels: taller tiles for GPUs with the workgroup memory for them, and
//! `shaders/lib/attention_lanes.wgsl` for adapters whose subgroups are the lanes of a vector register.

use super::attention::{AttentionShape, Pass};
use super::variant::Variant;
use super::{Caps, Kernel, Needs, flag, int};
use std::sync::Arc;

/// Multiply-adds of a head's scores below which a launch costs more than its work.
const SMALL: usize = 1 << 15;
/// Rows of the taller tile, and bytes of workgroup memory it takes at the largest chunks.
const TALL: usize = 64;
const TALL_BYTES: u32 = 24 << 10;

/// The implementation by one subgroup.
pub(super) struct Lanes {
    pub pass: Pass,
    /// File stem and text.
    pub wgsl: (&'static str, &'static str),
    /// Rows of an invocation.
    pub runs: usize,
}

/// Other implementations of `kernel`: by subgroups, and by its own WGSL with taller tiles.
pub(super) fn variants<K: Kernel + Clone + 'static>(
    kernel: &K,
    shape: &AttentionShape,
    Lanes { pass, wgsl, runs }: Lanes,
    caps: &Caps,
) -> Vec<Arc<dyn Kernel>> {
    let rows = if pass == Pass::Keys { shape.lk } else { shape.lq };
    let mut variants = vec![];
    if shape.lq * shape.lk * shape.d < SMALL {
        return variants;
    }
    if let Some(lanes) = caps.software_lanes() {
        let mut consts = pass.consts();
        consts.extend([
            flag("VEC4", shape.d.is_multiple_of(4)),
            int("D", shape.d),
            int("D4", shape.d.div_ceil(4)),
            int("WG", lanes),
            int("RUNS", runs),
        ]);
        let variant = Variant {
            kernel: kernel.clone(),
            name: format!("subgroup of {lanes}, {} rows", lanes * runs),
            wgsl: Some(wgsl),
            needs: Needs { subgroups: true, ..Needs::default() },
            consts,
            dims: kernel.dims(),
            grid: shape.grid_by(rows, lanes * runs),
        };
        variants.push(variant.arc());
    }
    if rows > TALL / 2 && caps.workgroup_bytes >= TALL_BYTES {
        let variant = Variant {
            kernel: kernel.clone(),
            name: format!("{TALL} rows"),
            wgsl: None,
            needs: Needs::default(),
            consts: shape.consts_by(pass, TALL),
            dims: kernel.dims(),
            grid: shape.grid_by(rows, TALL),
        };
        variants.push(variant.arc());
    }
    variants
}
