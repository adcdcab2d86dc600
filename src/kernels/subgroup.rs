//! The subgroup form of a kernel: the same shader with `SUBGROUPS` set, so that its reductions over
//! a workgroup go through `subgroupAdd`, `subgroupMax` and `subgroupMin` before workgroup memory
//! (`shaders/lib/reduce_subgroup.wgsl` and its neighbours). Two barriers instead of
//! `2 + log2(invocations)`.
//!
//! A sum is taken in another order than the baseline's, one that the driver fixes when it compiles
//! the pipeline, together with the subgroup size it picks: a device repeats its own bits, but they
//! are not those of the baseline, nor of another driver. A plan that uses this variant has
//! therefore another hash.

use super::{Bounded, Caps, Const, Cost, Io, Kernel, Needs, flag};
use std::sync::Arc;

/// `inner` with subgroup operations. Its shader knows the flag `SUBGROUPS`.
#[derive(Debug, Clone)]
pub struct WithSubgroups<K>(pub K);

/// What [`Kernel::variants`] of a kernel that reduces over a workgroup offers.
pub(super) fn offer<K: Kernel + Clone + 'static>(kernel: &K, caps: &Caps) -> Vec<Arc<dyn Kernel>> {
    let variant = WithSubgroups(kernel.clone());
    if caps.allow(variant.needs()) { vec![Arc::new(variant)] } else { vec![] }
}

/// The flag that is off in a baseline.
pub(super) fn off() -> Const {
    flag("SUBGROUPS", false)
}

impl<K: Kernel> Kernel for WithSubgroups<K> {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn wgsl(&self) -> &str {
        self.0.wgsl()
    }
    fn consts(&self) -> Vec<Const> {
        let on = |c: Const| if c == off() { flag(c.0, true) } else { c };
        self.0.consts().into_iter().map(on).collect()
    }
    fn dims(&self) -> Vec<u32> {
        self.0.dims()
    }
    fn lens(&self) -> Vec<usize> {
        self.0.lens()
    }
    fn half_ok(&self) -> u32 {
        self.0.half_ok()
    }
    fn half(&self) -> u32 {
        self.0.half()
    }
    fn grid(&self) -> [u32; 3] {
        self.0.grid()
    }
    fn cost(&self) -> Cost {
        self.0.cost()
    }
    fn needs(&self) -> Needs {
        Needs { subgroups: true, ..self.0.needs() }
    }
    fn variant(&self) -> String {
        "subgroup".into()
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        self.0.cpu(io);
    }
    fn naive32(&self, io: &mut Io<'_, f32>) {
        self.0.naive32(io);
    }
    fn naive64(&self, io: &mut Io<'_, f64>) {
        self.0.naive64(io);
    }
    fn naive_bounded(&self, io: &mut Io<'_, Bounded>) {
        self.0.naive_bounded(io);
    }
}
