//! What the cooperative-matrix forms of matrix product and convolution share: blocks, grid, rounding.

use super::super::{Bounded, Caps, Const, Cost, Io, Kernel, Needs, grid_1d, int};
use super::{Team, rounded};
use std::sync::Arc;

/// A product as `shaders/lib/coop_gemm.wgsl` sees it.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernels) struct Sizes {
    pub batch: usize,
    pub m: usize,
    pub n: usize,
    /// Whether neighbours along k are neighbours in memory.
    pub a_along_k: bool,
    pub b_along_k: bool,
}

/// A kernel whose first two bindings are the factors of a matrix product.
pub(in crate::kernels) trait MatrixProduct: Kernel + Clone + 'static {
    /// The sizes, if the shader takes them: lines of both operands are whole vec4s.
    fn sizes(&self) -> Option<Sizes>;
    fn coop_wgsl(&self) -> (&'static str, &'static str);
    /// Constants beside those of the block.
    fn coop_consts(&self) -> Vec<Const>;
    fn coop_dims(&self, row_blocks: usize, blocks: usize) -> Vec<u32>;
}

/// `inner` by cooperative matrices, `bm x bn` outputs a workgroup, `BK` summands at a time.
#[derive(Debug, Clone)]
pub(in crate::kernels) struct CoopProduct<K> {
    inner: K,
    sizes: Sizes,
    team: Team,
    bm: usize,
    bn: usize,
}

const BK: usize = 32;
/// Elements between staged lines, for other memory banks.
const PAD: usize = 8;
/// Rows of tiles whose sums the registers of a subgroup hold.
const MOST_ROWS: usize = 4;

/// Every block size that suits the sizes and fits the device.
pub(in crate::kernels) fn offer<K: MatrixProduct>(kernel: &K, caps: &Caps) -> Vec<Arc<dyn Kernel>> {
    let Some(sizes) = kernel.sizes() else { return vec![] };
    let mut variants: Vec<Arc<dyn Kernel>> = vec![];
    for team in Team::all(caps) {
        // A row of tiles a subgroup, or two. Emulated tiles take long to compile: few, and one block.
        let (rows, widest) = match (team.emulated, team.side) {
            (false, _) => (vec![1, 2], 64),
            (true, 8) => (vec![2], 16),
            (true, _) => (vec![1], 32),
        };
        for rows in rows {
            let bm = rows * team.subgroups.1 * team.side;
            let bn = sizes.n.next_power_of_two().clamp(16, widest);
            let variant = CoopProduct { inner: kernel.clone(), sizes, team, bm, bn };
            let (factors, tiles) = variant.memory();
            let worth = rows == 1 || sizes.m > bm / 2;
            if worth && variant.rows() <= MOST_ROWS && team.holds(factors, tiles) {
                variants.push(Arc::new(variant));
            }
        }
    }
    variants
}

impl<K> CoopProduct<K> {
    /// Elements of staged factors, and of finished tiles: one a subgroup.
    fn memory(&self) -> (usize, usize) {
        let staged = |along_k: bool, b: usize| {
            if along_k { b * (BK + PAD) } else { BK * (b + PAD) }
        };
        let left = staged(self.sizes.a_along_k, self.bm);
        let right = staged(self.sizes.b_along_k, self.bn);
        (left + right, self.team.subgroups.1 * self.team.side * self.team.side)
    }

    /// Rows of tiles of a subgroup, where there are fewest.
    fn rows(&self) -> usize {
        (self.bm / self.team.side).div_ceil(self.team.subgroups.0)
    }

    fn row_blocks(&self) -> usize {
        self.sizes.m.div_ceil(self.bm)
    }

    fn blocks(&self) -> usize {
        self.sizes.batch * self.row_blocks() * self.sizes.n.div_ceil(self.bn)
    }
}

impl<K: MatrixProduct> Kernel for CoopProduct<K> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn shader(&self) -> &'static str {
        self.inner.coop_wgsl().0
    }
    fn wgsl(&self) -> &'static str {
        self.inner.coop_wgsl().1
    }
    fn consts(&self) -> Vec<Const> {
        let Team { side, invocations, .. } = self.team;
        let (factors, tiles) = self.memory();
        let chunks = |b: usize| (b * BK / 4).div_ceil(invocations);
        let along = |along_k: bool, b: usize| if along_k { BK } else { b };
        let mut consts = self.inner.coop_consts();
        consts.extend(self.team.consts(factors, tiles));
        consts.extend([
            int("BM", self.bm),
            int("BN", self.bn),
            int("BK", BK),
            int("STEP_A", along(self.sizes.a_along_k, self.bm)),
            int("STEP_B", along(self.sizes.b_along_k, self.bn)),
            int("A_PASSES", chunks(self.bm)),
            int("B_PASSES", chunks(self.bn)),
            int("ROWS", self.rows()),
            int("COLUMNS", self.bn / side),
        ]);
        consts
    }
    fn dims(&self) -> Vec<u32> {
        self.inner.coop_dims(self.row_blocks(), self.blocks())
    }
    fn lens(&self) -> Vec<usize> {
        self.inner.lens()
    }
    fn half_ok(&self) -> u32 {
        self.inner.half_ok()
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.blocks(), 1)
    }
    fn cost(&self) -> Cost {
        self.inner.cost()
    }
    fn needs(&self) -> Needs {
        self.team.needs()
    }
    fn variant(&self) -> String {
        self.team.name(&format!("-{}x{}", self.bm, self.bn))
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        rounded(self.name(), 2, io, |io| self.inner.cpu(io));
    }
    fn naive32(&self, io: &mut Io<'_, f32>) {
        rounded(self.name(), 2, io, |io| self.inner.naive32(io));
    }
    fn naive64(&self, io: &mut Io<'_, f64>) {
        rounded(self.name(), 2, io, |io| self.inner.naive64(io));
    }
    fn naive_bounded(&self, io: &mut Io<'_, Bounded>) {
        rounded(self.name(), 2, io, |io| self.inner.naive_bounded(io));
    }
}
