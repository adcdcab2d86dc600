//! A kernel with some of its storage bindings in f16.

use super::{Bounded, Caps, Const, Cost, Io, Kernel, Needs};
use std::sync::Arc;

/// `inner`, with storage binding i stored as f16 where bit i of `mask` is set.
///
/// Nothing is computed in f16: [`crate::shader`] rewrites the loads and stores of the WGSL form, and
/// the CPU device widens such bindings before, and rounds them to nearest after, the cpu and the
/// naive form. These therefore see f32 slices, as ever, and delegate.
#[derive(Debug, Clone)]
pub struct Half {
    inner: Arc<dyn Kernel>,
    mask: u32,
}

impl Half {
    /// The kernel with the bindings of `mask` that it allows ([`Kernel::half_ok`]) in f16.
    pub fn of(inner: Arc<dyn Kernel>, mask: u32) -> Arc<dyn Kernel> {
        match mask & inner.half_ok() {
            0 => inner,
            mask => Arc::new(Half { inner, mask }),
        }
    }
}

impl Kernel for Half {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn wgsl(&self) -> &str {
        self.inner.wgsl()
    }
    fn consts(&self) -> Vec<Const> {
        self.inner.consts()
    }
    fn dims(&self) -> Vec<u32> {
        self.inner.dims()
    }
    fn lens(&self) -> Vec<usize> {
        self.inner.lens()
    }
    fn half_ok(&self) -> u32 {
        self.inner.half_ok()
    }
    fn half(&self) -> u32 {
        self.mask
    }
    fn grid(&self) -> [u32; 3] {
        self.inner.grid()
    }
    /// Every masked binding crosses the bus (at least) once with two bytes an element less.
    fn cost(&self) -> Cost {
        let lens = self.inner.lens();
        let masked = lens.iter().enumerate().filter(|(i, _)| self.mask >> i & 1 == 1);
        let saved: usize = masked.map(|(_, n)| 2 * n).sum();
        let cost = self.inner.cost();
        Cost { bytes: cost.bytes.saturating_sub(saved as u64), ..cost }
    }
    fn needs(&self) -> Needs {
        Needs { f16: true, ..self.inner.needs() }
    }
    fn variant(&self) -> String {
        self.inner.variant()
    }
    /// Those of the kernel that can be lowered as well.
    fn variants(&self, caps: &Caps) -> Vec<Arc<dyn Kernel>> {
        let all = self.inner.variants(caps).into_iter();
        let able = all.filter(|v| caps.f16 && v.half_ok() & self.mask == self.mask);
        able.map(|v| Half::of(v, self.mask)).collect()
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        self.inner.cpu(io);
    }
    fn naive32(&self, io: &mut Io<'_, f32>) {
        self.inner.naive32(io);
    }
    fn naive64(&self, io: &mut Io<'_, f64>) {
        self.inner.naive64(io);
    }
    fn naive_bounded(&self, io: &mut Io<'_, Bounded>) {
        self.inner.naive_bounded(io);
    }
}
