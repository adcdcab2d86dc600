//! Attention, forward, by cooperative matrices: both products, with the softmax between them in f32.

use super::super::attention::{Attention, TILE};
use super::super::delegate::delegate;
use super::super::rounded::Rounded;
use super::super::variant::Variant;
use super::super::{Caps, Io, Kernel, Real, int};
use super::{PAD, Team};
use crate::naive_forms;
use std::sync::Arc;

const KEYS: usize = 32;

/// On tiles of [`TILE`] queries and [`KEYS`] keys, for heads of whole tiles, where both fit the
/// device.
pub(in crate::kernels) fn offer(kernel: &Attention, caps: &Caps) -> Vec<Arc<dyn Kernel>> {
    let d = kernel.shape.d;
    // Elements of staged factors; of scores and results.
    let factors = (TILE + KEYS) * (d + PAD) + TILE * (KEYS + PAD);
    let tiles = TILE * (KEYS + d);
    // Three words a query beside the tiles: maximum, mass and factor.
    let bytes = Team::bytes(factors, tiles + 3 * TILE);
    let able = |team: &Team| d.is_multiple_of(team.side) && bytes <= caps.workgroup_bytes as usize;
    let variant = |team: Team| {
        let mut consts = team.consts(factors, tiles);
        consts.extend([
            int("WG", team.invocations),
            int("D", d),
            int("QUERIES", TILE),
            int("KEYS", KEYS),
        ]);
        Variant {
            kernel: Rounded { inner: HalfWeights { of: kernel.clone() }, factors: 3 },
            name: team.name(""),
            wgsl: Some(("coop/attention", include_str!("../../../shaders/coop/attention.wgsl"))),
            needs: team.needs(),
            consts,
            dims: kernel.dims(),
            grid: kernel.grid(),
        }
        .arc()
    };
    Team::all(caps).into_iter().filter(able).map(variant).collect()
}

/// Attention whose naive form rounds the weights of the values to f16.
#[derive(Debug, Clone)]
struct HalfWeights {
    of: Attention,
}

impl HalfWeights {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        self.of.naive_by(io, |weight| weight.half());
    }
}

impl Kernel for HalfWeights {
    delegate!(of: name shader wgsl consts dims lens half_ok grid cost);
    naive_forms!();
}
