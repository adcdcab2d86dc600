//! The block of a matrix product that one workgroup computes: constants of `shaders/lib/gemm*.wgsl`.

use super::coop::{self, Team};
use super::{Caps, Const, Needs, flag, grid_1d, int};

/// The matrix product that a kernel is: `m x n` outputs of `k` summands each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gemm {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    /// Whether neighbours along k are neighbours in memory.
    pub a_along_k: bool,
    pub b_along_k: bool,
    /// Whether the lines of both factors and of the outputs are whole vec4s.
    pub vec4: bool,
}

/// How a workgroup computes its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `gemm.wgsl`: operands staged in workgroup memory, `rows x columns` sums an invocation.
    Staged { rows: usize, columns: usize, padded: bool },
    /// `gemm_subgroup.wgsl`: operands in the registers of one subgroup of this many invocations.
    Subgroup(usize),
    /// `gemm_narrow.wgsl`: the same with rows for columns.
    Narrow(usize),
    /// `coop_gemm.wgsl`: factors rounded to f16, tiles of them multiplied by subgroups.
    Coop(Team),
}

/// A workgroup computes `bm x bn` outputs, `bk` summands at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub bm: usize,
    pub bn: usize,
    pub bk: usize,
    pub form: Form,
}

impl Block {
    const fn staged(bm: usize, bn: usize, bk: usize, rows: usize, columns: usize) -> Self {
        Block { bm, bn, bk, form: Form::Staged { rows, columns, padded: false } }
    }

    /// The baseline: 64 invocations, 8 x 8 sums each. Narrow outputs get tall blocks, so that fewer
    /// columns are computed in vain.
    pub fn for_columns(n: usize) -> Self {
        match n {
            0..=16 => Self::staged(256, 16, 8, 8, 8),
            17..=32 => Self::staged(128, 32, 16, 8, 8),
            _ => Self::staged(64, 64, 16, 8, 8),
        }
    }

    /// Other blocks, the most promising first. Products too small to tell blocks apart get none
    /// but those that are there for tests.
    pub fn variants(gemm: Gemm, caps: &Caps) -> Vec<Block> {
        /// Multiply-adds below which a launch costs more than its work.
        const SMALL: usize = 1 << 16;
        let Gemm { m, n, k, a_along_k, .. } = gemm;
        let mut blocks = coop::blocks(gemm, caps);
        if m * n * k < SMALL {
            blocks.retain(|b| matches!(b.form, Form::Coop(team) if team.emulated));
            return blocks;
        }
        if let Some(lanes) = caps.software_lanes() {
            // Across k an invocation's loads cover four rows.
            let bm = if a_along_k { lanes * m.div_ceil(lanes).min(4) } else { 4 * lanes };
            let bn = if n <= 4 * lanes { 4 * lanes } else { 8 * lanes };
            let wide = Block { bm, bn, bk: 4, form: Form::Subgroup(lanes) };
            // As many columns as make a vec4 an invocation for at least 4 k.
            let bn = if n <= 4 { 4 } else { lanes };
            let narrow = Block { bm: 4 * lanes, bn, bk: 4 * lanes / bn, form: Form::Narrow(lanes) };
            blocks.push(if n <= lanes { narrow } else { wide });
        }
        let padded = Form::Staged { rows: 8, columns: 8, padded: true };
        blocks.extend([
            Self::staged(128, 128, 16, 8, 8),
            Self::staged(128, 64, 16, 8, 8),
            Self::staged(64, 64, 16, 4, 4),
            Block { form: padded, ..Self::staged(64, 64, 16, 8, 8) },
            Self::staged(64, 64, 32, 8, 8),
            Self::staged(64, 32, 16, 4, 4),
            Self::staged(32, 32, 32, 4, 4),
        ]);
        blocks.retain(|b| {
            let fits = b.workgroup_bytes(gemm) <= caps.workgroup_bytes as usize
                && b.invocations() <= caps.invocations as usize;
            // Blocks that reach far past the outputs compute in vain.
            let useful = 2 * m > b.bm && 2 * n > b.bn;
            fits && (useful || b.needs().subgroups) && *b != Self::for_columns(n)
        });
        blocks
    }

    pub fn invocations(self) -> usize {
        match self.form {
            Form::Staged { rows, columns, .. } => self.bm * self.bn / (rows * columns),
            Form::Subgroup(lanes) | Form::Narrow(lanes) => lanes,
            Form::Coop(team) => team.invocations,
        }
    }

    /// Whether the factors are rounded to f16.
    pub fn rounds(self) -> bool {
        matches!(self.form, Form::Coop(_))
    }

    /// vec4s between the rows of a staged block, of each operand.
    fn pad(self) -> usize {
        usize::from(matches!(self.form, Form::Staged { padded: true, .. }))
    }

    fn workgroup_bytes(self, gemm: Gemm) -> usize {
        match self.form {
            Form::Staged { .. } => 16 * self.bk * (self.bm / 4 + self.bn / 4 + 2 * self.pad()),
            Form::Subgroup(_) | Form::Narrow(_) => 0,
            Form::Coop(team) => coop::workgroup_bytes(self, team, gemm),
        }
    }

    pub fn needs(self) -> Needs {
        match self.form {
            Form::Staged { .. } => Needs::default(),
            Form::Subgroup(_) | Form::Narrow(_) => Needs { subgroups: true, ..Needs::default() },
            Form::Coop(team) => team.needs(),
        }
    }

    /// As it stands in tables: "128x64x16 8x8".
    pub fn name(self) -> String {
        let Block { bm, bn, bk, form } = self;
        match form {
            Form::Staged { rows, columns, padded } => {
                let padded = if padded { " padded" } else { "" };
                format!("{bm}x{bn}x{bk} {rows}x{columns}{padded}")
            }
            Form::Subgroup(lanes) | Form::Narrow(lanes) => {
                format!("subgroup of {lanes}, {bm}x{bn}")
            }
            Form::Coop(team) => team.name(&format!("-{bm}x{bn}")),
        }
    }

    pub fn consts(self, gemm: Gemm) -> Vec<Const> {
        let wg = self.invocations();
        let mut consts = vec![
            int("BM", self.bm),
            int("BN", self.bn),
            int("BK", self.bk),
            int("WG", wg),
            flag("A_ALONG_K", gemm.a_along_k),
            flag("B_ALONG_K", gemm.b_along_k),
        ];
        match self.form {
            Form::Staged { rows, columns, .. } => {
                // An invocation stages 4 x 4 elements at a time.
                let a_blocks = self.bm * self.bk / 16;
                let b_blocks = self.bn * self.bk / 16;
                let apart = a_blocks + b_blocks <= wg;
                let (a_partial, b_partial) =
                    (!a_blocks.is_multiple_of(wg), !b_blocks.is_multiple_of(wg));
                consts.extend([
                    int("FORM", 0),
                    int("ROWS4", rows / 4),
                    int("COLUMNS4", columns / 4),
                    int("PAD", self.pad()),
                    int("A_PASSES", a_blocks.div_ceil(wg)),
                    int("B_PASSES", b_blocks.div_ceil(wg)),
                    flag("A_PARTIAL", a_partial),
                    flag("B_PARTIAL", b_partial),
                    int("B_SHIFT", if apart { a_blocks } else { 0 }),
                ]);
                consts.extend(a_partial.then(|| int("A_BLOCKS", a_blocks)));
                consts.extend(b_partial.then(|| int("B_BLOCKS", b_blocks)));
            }
            Form::Subgroup(lanes) => {
                let (x, y) = if gemm.a_along_k { (self.bm / lanes, lanes) } else { (lanes, 4) };
                consts.extend([
                    int("FORM", 1),
                    int("X_ROWS", x),
                    int("Y_ROWS", y),
                    int("COLUMNS4", self.bn / 4 / lanes),
                ]);
            }
            Form::Narrow(lanes) => consts.extend([
                int("FORM", 2),
                int("RUNS", self.bm / lanes),
                int("COLUMNS4", self.bn / 4),
                int("KQ", self.bk / 4),
            ]),
            Form::Coop(team) => {
                consts.push(int("FORM", 3));
                consts.extend(coop::consts(self, team, gemm));
            }
        }
        consts
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

#[cfg(test)]
mod tests {
    use super::*;

    fn gemm(m: usize, n: usize, k: usize) -> Gemm {
        Gemm { m, n, k, a_along_k: true, b_along_k: false, vec4: n.is_multiple_of(4) }
    }

    #[test]
    fn variants_fit_the_device() {
        let names = |m, n, caps: &Caps| -> Vec<String> {
            Block::variants(gemm(m, n, 512), caps).iter().map(|b| b.name()).collect()
        };
        let webgpu = names(512, 512, &Caps::default());
        assert!(webgpu.contains(&"128x128x16 8x8".into()), "{webgpu:?}");
        assert!(!webgpu.iter().any(|n| n.starts_with("subgroup")), "{webgpu:?}");
        let software = Caps { subgroups: Some((8, 8)), software: true, ..Caps::default() };
        assert_eq!(names(512, 512, &software)[0], "subgroup of 8, 32x64");
        assert_eq!(names(8, 512, &software)[0], "subgroup of 8, 8x64");
        let small = Caps { workgroup_bytes: 8 << 10, invocations: 128, ..Caps::all() };
        for block in Block::variants(gemm(512, 512, 512), &small) {
            let bytes = block.workgroup_bytes(gemm(512, 512, 512));
            assert!(bytes <= 8 << 10 && block.invocations() <= 128, "{block:?}");
        }
        assert_eq!(names(512, 3, &software)[0], "subgroup of 8, 32x4");
        assert!(Block::variants(gemm(8, 8, 8), &software).is_empty());
    }

    /// Cooperative matrices where factors may round, and lines are whole.
    #[test]
    fn rounding_is_asked_for() {
        let rounding =
            |n, caps: &Caps| Block::variants(gemm(512, n, 512), caps).iter().any(|b| b.rounds());
        assert!(rounding(512, &Caps::all()));
        assert!(!rounding(510, &Caps::all()));
        assert!(!rounding(512, &Caps { half_products: false, ..Caps::all() }));
    }
}
