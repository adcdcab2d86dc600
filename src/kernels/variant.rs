//! Variants: the same kernel by other WGSL, by other constants or by another grid.

use super::block::{Block, Gemm};
use super::delegate::delegate;
use super::rounded::Rounded;
use super::{Caps, Const, Kernel, Needs};
use std::sync::Arc;

/// `kernel`, but for what its WGSL is and how it is launched.
#[derive(Debug, Clone)]
pub(super) struct Variant<K> {
    pub kernel: K,
    pub name: String,
    /// File stem and text of the shader; the kernel's own, if none.
    pub wgsl: Option<(&'static str, &'static str)>,
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
    delegate!(kernel: name lens half_ok cost variants forms);
    fn shader(&self) -> &'static str {
        self.wgsl.map_or_else(|| self.kernel.shader(), |(file, _)| file)
    }
    fn wgsl(&self) -> &str {
        self.wgsl.map_or_else(|| self.kernel.wgsl(), |(_, text)| text)
    }
    fn consts(&self) -> Vec<Const> {
        self.consts.clone()
    }
    fn dims(&self) -> Vec<u32> {
        self.dims.clone()
    }
    fn grid(&self) -> [u32; 3] {
        self.grid
    }
    fn needs(&self) -> Needs {
        self.needs
    }
    fn variant(&self) -> String {
        self.name.clone()
    }
    /// Those of another shader are looked at where it is offered.
    fn rounds(&self) -> usize {
        if self.wgsl.is_some() { 0 } else { self.kernel.rounds() }
    }
}

/// A kernel whose WGSL computes a matrix product block by block; its first two bindings are the
/// factors. What the block has a part in:
pub(super) trait Blocked: Kernel {
    fn gemm(&self) -> Gemm;
    fn consts_by(&self, block: Block) -> Vec<Const>;
    fn dims_by(&self, block: Block) -> Vec<u32>;
    fn grid_by(&self, block: Block) -> [u32; 3];
}

/// `kernel` by every other block that `caps` allow.
pub(super) fn variants<K>(kernel: &K, caps: &Caps) -> Vec<Arc<dyn Kernel>>
where
    K: Blocked + Clone + 'static,
{
    fn by<K: Kernel + 'static>(kernel: K, of: &impl Blocked, block: Block) -> Arc<dyn Kernel> {
        Variant {
            kernel,
            name: block.name(),
            wgsl: None,
            needs: block.needs(),
            consts: of.consts_by(block),
            dims: of.dims_by(block),
            grid: of.grid_by(block),
        }
        .arc()
    }
    let blocks = Block::variants(kernel.gemm(), caps).into_iter();
    let variant = |block: Block| match block.rounds() {
        true => by(Rounded { inner: kernel.clone(), factors: 2 }, kernel, block),
        false => by(kernel.clone(), kernel, block),
    };
    blocks.map(variant).collect()
}
