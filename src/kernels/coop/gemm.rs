//! Blocks of a matrix product by cooperative matrices: constants of `shaders/lib/coop_gemm.wgsl`.

use super::super::block::{Block, Form, Gemm};
use super::super::{Caps, Const, int};
use super::{PAD, Team};

/// Summands at a time.
const BK: usize = 32;
/// Rows of tiles whose sums the registers of a subgroup hold.
const MOST_ROWS: usize = 4;

/// Every block for a product of whole vec4s.
pub(in crate::kernels) fn blocks(gemm: Gemm, caps: &Caps) -> Vec<Block> {
    let mut blocks = vec![];
    if !gemm.vec4 {
        return blocks;
    }
    for team in Team::all(caps) {
        let most = team.subgroups.1;
        // A row of tiles a subgroup, or two. Emulated tiles take long to compile: one block, and that
        // of 8 with a row of tiles too few for all subgroups.
        let (rows, widest) = match (team.emulated, team.side) {
            (false, _) => (vec![most, 2 * most], 64),
            (true, 8) => (vec![2 * most - 1], 16),
            (true, _) => (vec![most], 32),
        };
        let bn = gemm.n.next_power_of_two().clamp(16, widest);
        let block = |rows| Block { bm: rows * team.side, bn, bk: BK, form: Form::Coop(team) };
        let worth = |b: &Block| b.bm == most * team.side || 2 * gemm.m > b.bm || team.emulated;
        let fits = |b: &Block| {
            rows_of_tiles(*b, team) <= MOST_ROWS
                && workgroup_bytes(*b, team, gemm) <= caps.workgroup_bytes as usize
        };
        blocks.extend(rows.into_iter().map(block).filter(|b| worth(b) && fits(b)));
    }
    blocks
}

/// Rows of tiles of a subgroup, where there are fewest subgroups.
fn rows_of_tiles(block: Block, team: Team) -> usize {
    (block.bm / team.side).div_ceil(team.subgroups.0)
}

/// Elements of staged factors, and of finished tiles: one a subgroup.
fn memory(block: Block, team: Team, gemm: Gemm) -> (usize, usize) {
    let staged = |along_k: bool, b: usize| {
        if along_k { b * (block.bk + PAD) } else { block.bk * (b + PAD) }
    };
    let factors = staged(gemm.a_along_k, block.bm) + staged(gemm.b_along_k, block.bn);
    (factors, team.subgroups.1 * team.side * team.side)
}

pub(in crate::kernels) fn workgroup_bytes(block: Block, team: Team, gemm: Gemm) -> usize {
    let (factors, tiles) = memory(block, team, gemm);
    Team::bytes(factors, tiles)
}

/// Constants beside those that all forms have.
pub(in crate::kernels) fn consts(block: Block, team: Team, gemm: Gemm) -> Vec<Const> {
    let (factors, tiles) = memory(block, team, gemm);
    let passes = |b: usize| (b * block.bk / 4).div_ceil(team.invocations);
    let line = |along_k: bool, b: usize| if along_k { block.bk } else { b };
    let mut consts = team.consts(factors, tiles);
    consts.extend([
        int("STEP_A", line(gemm.a_along_k, block.bm)),
        int("STEP_B", line(gemm.b_along_k, block.bn)),
        int("A_PASSES", passes(block.bm)),
        int("B_PASSES", passes(block.bn)),
        int("ROWS", rows_of_tiles(block, team)),
        int("COLUMNS", block.bn / team.side),
    ]);
    consts
}
