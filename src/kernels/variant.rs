//! Variants: the same kernel by other WGSL, by other constants or by another grid.

use super::block::Block;
use super::{Bounded, Caps, Const, Cost, Io, Kernel, Needs};
use std::sync::Arc;

/// `kernel`, but for what its WGSL is and how it is launched.
#[derive(Debug, Clone)]
pub(super) struct Variant<K> {
    pub kernel: K,
    pub name: String,
    /// The kernel's own, if none.
    pub wgsl: Option<&'static str>,
    pub needs: Needs,
    pub consts: Vec<Const>,
    pub dims: Vec<u32>,
    pub grid: [u32; 3],
}

impl<K: Kernel + 'static> Variant<K> {
    pub fn arc(self) -> Arc<dyn Kernel> {
        Arc::new(self)
    }
}

impl<K: Kernel> Kernel for Variant<K> {
    fn name(&self) -> &'static str {
        self.kernel.name()
    }
    fn wgsl(&self) -> &str {
        self.wgsl.unwrap_or_else(|| self.kernel.wgsl())
    }
    fn consts(&self) -> Vec<Const> {
        self.consts.clone()
    }
    fn dims(&self) -> Vec<u32> {
        self.dims.clone()
    }
    fn lens(&self) -> Vec<usize> {
        self.kernel.lens()
    }
    fn half_ok(&self) -> u32 {
        self.kernel.half_ok()
    }
    fn grid(&self) -> [u32; 3] {
        self.grid
    }
    fn cost(&self) -> Cost {
        self.kernel.cost()
    }
    fn needs(&self) -> Needs {
        self.needs
    }
    fn variant(&self) -> String {
        self.name.clone()
    }
    fn variants(&self, caps: &Caps) -> Vec<Arc<dyn Kernel>> {
        self.kernel.variants(caps)
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        self.kernel.cpu(io);
    }
    fn naive32(&self, io: &mut Io<'_, f32>) {
        self.kernel.naive32(io);
    }
    fn naive64(&self, io: &mut Io<'_, f64>) {
        self.kernel.naive64(io);
    }
    fn naive_bounded(&self, io: &mut Io<'_, Bounded>) {
        self.kernel.naive_bounded(io);
    }
}

/// A kernel whose WGSL computes a matrix product block by block. What the block has a part in:
pub(super) trait Blocked: Kernel + Clone + 'static {
    fn consts_by(&self, block: Block) -> Vec<Const>;
    fn dims_by(&self, block: Block) -> Vec<u32>;
    fn grid_by(&self, block: Block) -> [u32; 3];
}

/// `kernel` by each of `blocks`.
pub(super) fn variants<K: Blocked>(kernel: &K, blocks: Vec<Block>) -> Vec<Arc<dyn Kernel>> {
    let by = |block: Block| {
        Variant {
            kernel: kernel.clone(),
            name: block.name(),
            wgsl: None,
            needs: block.needs(),
            consts: kernel.consts_by(block),
            dims: kernel.dims_by(block),
            grid: kernel.grid_by(block),
        }
        .arc()
    };
    blocks.into_iter().map(by).collect()
}
