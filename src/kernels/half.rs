//! A kernel with some of its storage bindings in f16.

use super::delegate::delegate;
use super::{Caps, Cost, Kernel, Needs};
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
    delegate!(inner: name shader wgsl consts dims lens half_ok grid rounds variant forms);
    fn half(&self) -> u32 {
        self.mask
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
    /// Those of the kernel that can be lowered as well.
    fn variants(&self, caps: &Caps) -> Vec<Arc<dyn Kernel>> {
        let all = self.inner.variants(caps).into_iter();
        let able = all.filter(|v| caps.f16 && v.half_ok() & self.mask == self.mask);
        able.map(|v| Half::of(v, self.mask)).collect()
    }
}
