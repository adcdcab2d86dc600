//! Cooperative-matrix variants: products of f16 factors with f32 sums on a GPU's matrix units.
//!
//! The factors are rounded to f16 while they are staged in workgroup memory; sums, biases,
//! activations and softmax stay f32. As results differ from the baseline's by the rounding of the
//! factors, the variants are offered only where [`Caps::half_products`] permits it, and their naive
//! and CPU forms round alike: the derived bound of such a variant is its own.
//!
//! f16 holds magnitudes up to 65,504 and, with fewer and fewer digits, down to 6e-8. Activations and
//! weights are at home there. Gradients are under mixed precision, which alone sets that capability:
//! its loss scale keeps dy in range, where a gradient stored as f16 would have to be as well.
//!
//! A product is [`blocks`] of the same shader as its other forms; attention has one of its own.
//! Both use the matrices through eight functions of `shaders/lib/coop.wgsl`. With
//! [`Caps::emulate_coop`] the same shaders are also offered with those functions written out in
//! plain WGSL, so that their index arithmetic is tested on any device with subgroups and f16.

mod attention;
mod gemm;

pub(super) use attention::offer as offer_attention;
pub(super) use gemm::{blocks, consts, workgroup_bytes};

use super::{Caps, Const, Needs, flag, int};

/// Elements between staged lines, for other memory banks.
const PAD: usize = 8;

/// The invocations of a workgroup that multiplies tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Team {
    /// Side of the tiles.
    pub side: usize,
    pub invocations: usize,
    /// Fewest and most subgroups the invocations may form.
    subgroups: (usize, usize),
    /// Whether the matrices are written out in plain WGSL.
    pub emulated: bool,
}

impl Team {
    /// Four subgroups of the smallest size, or one of the largest: one team for each side of tiles.
    fn all(caps: &Caps) -> Vec<Team> {
        let Some((least, most)) = caps.subgroups else { return vec![] };
        let (least, most) = (least.max(1) as usize, most.max(1) as usize);
        let invocations = most.max(4 * least);
        if !caps.half_products || !caps.f16 || invocations > caps.invocations as usize {
            return vec![];
        }
        let native = caps.coop_matrix.iter().map(|&side| (side as usize, false));
        let emulated = [(8, true), (16, true)].into_iter().filter(|_| caps.emulate_coop);
        let subgroups = (invocations / most, invocations / least);
        let team = |(side, emulated)| Team { side, invocations, subgroups, emulated };
        native.chain(emulated).map(team).collect()
    }

    pub fn needs(self) -> Needs {
        let coop_matrix = if self.emulated { 0 } else { self.side as u32 };
        Needs { subgroups: true, f16: true, coop_matrix }
    }

    /// As in "coop16", and what follows it in the name of a variant.
    pub fn name(self, rest: &str) -> String {
        let emulated = if self.emulated { "-emulated" } else { "" };
        format!("coop{}{rest}{emulated}", self.side)
    }

    /// Constants of `shaders/lib/coop.wgsl`: `factors` elements of f16, `tiles` of f32.
    fn consts(self, factors: usize, tiles: usize) -> Vec<Const> {
        let mut consts = vec![
            int("T", self.side),
            int("FACTORS", factors),
            int("TILES", tiles),
            flag("EMULATED", self.emulated),
        ];
        if self.emulated {
            let least = self.invocations / self.subgroups.1;
            consts.push(int("OWN", (self.side * self.side).div_ceil(least)));
        }
        consts
    }

    /// Workgroup memory of so many elements and a few words beside.
    fn bytes(factors: usize, tiles: usize) -> usize {
        2 * factors + 4 * tiles + 16
    }
}
