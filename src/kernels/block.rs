//! The block of a matrix product that one workgroup computes: constants of `shaders/lib/gemm.wgsl`.

use super::{Const, grid_1d, int};

/// 64 invocations compute `bm x bn` outputs, 8 x 8 each, `bk` summands at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub bm: usize,
    pub bn: usize,
    pub bk: usize,
}

impl Block {
    /// Narrow outputs get tall blocks, so that fewer columns are computed in vain.
    pub fn for_columns(n: usize) -> Self {
        match n {
            0..=16 => Block { bm: 256, bn: 16, bk: 8 },
            17..=32 => Block { bm: 128, bn: 32, bk: 16 },
            _ => Block { bm: 64, bn: 64, bk: 16 },
        }
    }

    pub fn consts(self) -> Vec<Const> {
        // An invocation stages 4 x 4 elements at a time.
        let a_blocks = self.bm * self.bk / 16;
        let b_blocks = self.bn * self.bk / 16;
        vec![
            int("BM", self.bm),
            int("BN", self.bn),
            int("BK", self.bk),
            int("A_PASSES", a_blocks.div_ceil(64)),
            int("B_BLOCKS", b_blocks),
        ]
    }

    /// Blocks that cover `m x n`.
    pub fn count(self, m: usize, n: usize) -> usize {
        m.div_ceil(self.bm) * n.div_ceil(self.bn)
    }

    /// One workgroup a block.
    pub fn grid(blocks: usize) -> [u32; 3] {
        grid_1d(blocks, 1)
    }
}
