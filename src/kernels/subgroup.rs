//! The subgroup form of a kernel: the same shader with `SUBGROUPS` set, so that its reductions over
//! a workgroup go through `subgroupAdd`, `subgroupMax` and `subgroupMin` before workgroup memory
//! (`shaders/lib/reduce_subgroup.wgsl` and its neighbours). Two barriers instead of
//! `2 + log2(invocations)`.
//!
//! A sum is taken in another order than the baseline's: that of the driver's reduction, over
//! subgroups of a size that the driver picks within the device's range. Vulkan permits it to pick
//! anew (wgpu asks for `ALLOW_VARYING_SUBGROUP_SIZE`), in practice it does when it compiles the
//! pipeline. A device repeats its own bits as long as that holds, which a test checks; they are not
//! those of the baseline, nor of another driver. A plan that uses this variant has therefore another
//! hash.

use super::variant::Variant;
use super::{Caps, Const, Kernel, Needs, flag};
use std::sync::Arc;

/// What [`Kernel::variants`] of a kernel that reduces over a workgroup offers. Its shader knows the
/// flag `SUBGROUPS`.
pub(super) fn offer<K: Kernel + Clone + 'static>(kernel: &K, caps: &Caps) -> Vec<Arc<dyn Kernel>> {
    let needs = Needs { subgroups: true, ..kernel.needs() };
    if !caps.allow(needs) {
        return vec![];
    }
    let on = |c: Const| if c == off() { flag(c.0, true) } else { c };
    let variant = Variant {
        kernel: kernel.clone(),
        name: "subgroup".into(),
        wgsl: None,
        needs,
        consts: kernel.consts().into_iter().map(on).collect(),
        dims: kernel.dims(),
        grid: kernel.grid(),
    };
    vec![variant.arc()]
}

/// The flag that is off in a baseline.
pub(super) fn off() -> Const {
    flag("SUBGROUPS", false)
}
