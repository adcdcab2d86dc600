//! Attention, forward, by cooperative matrices: both products, with the softmax between them in f32.

use super::super::attention::{Attention, TILE};
use super::super::{Bind, Caps, Const, Cost, Io, Kernel, Needs, Real, int, wrong_binds};
use super::{Team, rounded};
use crate::naive_forms;
use std::sync::Arc;

/// `inner` on tiles of [`TILE`] queries and [`KEYS`] keys.
#[derive(Debug, Clone)]
pub(in crate::kernels) struct CoopAttention {
    inner: Attention,
    team: Team,
}

const KEYS: usize = 32;
/// Elements between staged lines, for other memory banks.
const PAD: usize = 8;

/// For heads of whole tiles, where the tiles of queries and keys fit the device.
pub(in crate::kernels) fn offer(kernel: &Attention, caps: &Caps) -> Vec<Arc<dyn Kernel>> {
    let variants = Team::all(caps).into_iter().map(|team| {
        let variant = CoopAttention { inner: kernel.clone(), team };
        let (factors, tiles) = variant.memory();
        // Three words a query beside the tiles: maximum, mass and factor.
        let fits = team.holds(factors, tiles + 3 * TILE);
        (kernel.shape.d.is_multiple_of(team.side) && fits).then_some(variant)
    });
    variants.flatten().map(|v| Arc::new(v) as Arc<dyn Kernel>).collect()
}

impl CoopAttention {
    /// Elements of staged factors; of scores and results.
    fn memory(&self) -> (usize, usize) {
        let d = self.inner.shape.d;
        let factors = (TILE + KEYS) * (d + PAD) + TILE * (KEYS + PAD);
        (factors, TILE * (KEYS + d))
    }

    /// As the baseline's, on factors rounded beforehand, with the weights of the values rounded too.
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let s = &self.inner.shape;
        rounded(self.name(), 3, io, |io| {
            let [Bind::In(q), Bind::In(k), Bind::In(v), Bind::Out(y), Bind::Out(lse), ..] =
                &mut io.binds
            else {
                wrong_binds(self.name())
            };
            let mut scores = vec![T::zero(); s.lk];
            for row in 0..s.rows() {
                let (b, head, i) = (row / s.lq / s.heads, row / s.lq % s.heads, row % s.lq);
                let query = s.query(b, head, i);
                for (j, score) in scores.iter_mut().enumerate() {
                    let mut dot = T::zero();
                    for x in 0..s.d {
                        dot += q[query + x] * k[s.key(b, head, j) + x];
                    }
                    *score = dot * T::of(s.scale.into());
                }
                let highest = scores.iter().fold(scores[0], |a, &b| a.maximum(b));
                let mut mass = T::zero();
                for score in &mut scores {
                    *score = (*score - highest).exp();
                    mass += *score;
                }
                lse[row] = highest + mass.ln();
                for x in 0..s.d {
                    let mut sum = T::zero();
                    for (j, weight) in scores.iter().enumerate() {
                        sum += weight.half() * v[s.key(b, head, j) + x];
                    }
                    y[query + x] = sum / mass;
                }
            }
        });
    }
}

impl Kernel for CoopAttention {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn shader(&self) -> &'static str {
        "coop/attention"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../../shaders/coop/attention.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        let (factors, tiles) = self.memory();
        let mut consts = self.team.consts(factors, tiles);
        consts.extend([int("D", self.inner.shape.d), int("QUERIES", TILE), int("KEYS", KEYS)]);
        consts
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
    fn grid(&self) -> [u32; 3] {
        self.inner.grid()
    }
    fn cost(&self) -> Cost {
        self.inner.cost()
    }
    fn needs(&self) -> Needs {
        self.team.needs()
    }
    fn variant(&self) -> String {
        self.team.name("")
    }
    naive_forms!();
}
