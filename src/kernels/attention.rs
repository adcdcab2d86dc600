//! Scaled dot-product attention (Vaswani et al. 2017), forward, in tiles: no row of scores is ever
//! held in memory (Milakov & Gimelshein 2018; Dao et al. 2022).

use super::attention_variants::{self, Lanes};
use super::cpu::attention;
use super::{
    Bind, Caps, Case, Const, Cost, Fill, Io, Kernel, Real, bindings, coop, flag, int, wrong_binds,
};
use crate::naive_forms;
use std::sync::Arc;

/// q [batch, lq, heads * d]; k, v [batch, lk, heads * d].
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionShape {
    pub batch: usize,
    pub heads: usize,
    /// Queries of a sequence.
    pub lq: usize,
    /// Keys of a sequence.
    pub lk: usize,
    /// Size of a head, at most 128.
    pub d: usize,
    /// Factor of the scores, usually 1 / sqrt(d).
    pub scale: f32,
}

/// What a kernel owns rows of and computes: the switches of `shaders/lib/attention_io.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Pass {
    /// Queries; the result. `causal`: as [`Attention::causal`].
    Forward { causal: bool },
    /// Queries; their gradient.
    Queries,
    /// Keys; their gradient and that of the values.
    Keys,
}

impl Pass {
    pub(super) fn consts(self) -> Vec<Const> {
        match self {
            Pass::Forward { .. } => vec![flag("BACKWARD", false)],
            pass => vec![flag("BACKWARD", true), flag("KEYS", pass == Pass::Keys)],
        }
    }
}

/// Queries (or keys) a workgroup of the baseline handles, and the columns of every tile: `TILE` of
/// `shaders/lib/attention_tile.wgsl`.
pub(super) const TILE: usize = 32;

impl AttentionShape {
    /// Words of a token: all heads.
    pub fn width(&self) -> usize {
        self.heads * self.d
    }
    pub fn q_len(&self) -> usize {
        self.batch * self.lq * self.width()
    }
    pub fn kv_len(&self) -> usize {
        self.batch * self.lk * self.width()
    }
    /// Words of lse and delta [batch, heads, lq].
    pub fn rows(&self) -> usize {
        self.batch * self.heads * self.lq
    }
    /// Word of component 0 of a query's head.
    pub(super) fn query(&self, b: usize, head: usize, i: usize) -> usize {
        (b * self.lq + i) * self.width() + head * self.d
    }
    /// Word of component 0 of a key's head.
    pub(super) fn key(&self, b: usize, head: usize, j: usize) -> usize {
        (b * self.lk + j) * self.width() + head * self.d
    }
    /// Of a tile of `rows` queries (or keys). A head is staged in as few chunks of at most 8 vec4s as
    /// hold it, all of one size.
    pub(super) fn consts_by(&self, pass: Pass, rows: usize) -> Vec<Const> {
        let vectors = self.d.div_ceil(4);
        let chunks = vectors.div_ceil(8);
        let mut consts = pass.consts();
        consts.extend([
            int("ROWS", rows),
            flag("VEC4", self.d.is_multiple_of(4)),
            int("D", self.d),
            int("CHUNKS", chunks),
            int("CHUNK4", vectors.div_ceil(chunks)),
        ]);
        if let Pass::Forward { causal } = pass {
            consts.push(flag("CAUSAL", causal));
        }
        consts
    }
    /// Of the baseline.
    pub(super) fn consts(&self, pass: Pass) -> Vec<Const> {
        self.consts_by(pass, TILE)
    }
    pub(super) fn dims(&self) -> Vec<u32> {
        vec![self.lq as u32, self.lk as u32, self.heads as u32, self.scale.to_bits()]
    }
    /// A workgroup for every `rows` of a sequence of `length`, head and sample.
    pub(super) fn grid_by(&self, length: usize, rows: usize) -> [u32; 3] {
        [length.div_ceil(rows) as u32, self.heads as u32, self.batch as u32]
    }
    /// Of the baseline.
    pub(super) fn grid(&self, length: usize) -> [u32; 3] {
        self.grid_by(length, TILE)
    }
    /// Multiply-adds of one product of all queries with all keys.
    pub(super) fn products(&self) -> u64 {
        (self.rows() * self.lk * self.d) as u64
    }
}

/// y = softmax(scale q k') v per head, and lse = log sum exp(scale q k') per query.
/// Bindings: q, k, v, y [batch, lq, heads * d], lse [batch, heads, lq].
///
/// `causal`: query i sees keys up to i + lk - lq, the last one all of them; lq <= lk. There is no backward
/// pass for that: it is for encoders that are not trained.
#[derive(Debug, Clone)]
pub struct Attention {
    pub shape: AttentionShape,
    pub causal: bool,
}

impl Attention {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        self.naive_by(io, |weight| weight);
    }

    /// With `weigh` of the values' weights exp(score - highest).
    pub(super) fn naive_by<T: Real>(&self, io: &mut Io<'_, T>, weigh: impl Fn(T) -> T) {
        let [Bind::In(q), Bind::In(k), Bind::In(v), Bind::Out(y), Bind::Out(lse), ..] =
            &mut io.binds
        else {
            wrong_binds(self.name())
        };
        let s = &self.shape;
        let mut scores = vec![T::zero(); s.lk];
        for b in 0..s.batch {
            for head in 0..s.heads {
                for i in 0..s.lq {
                    let query = s.query(b, head, i);
                    scores.resize(if self.causal { s.lk - s.lq + i + 1 } else { s.lk }, T::zero());
                    for (j, score) in scores.iter_mut().enumerate() {
                        let mut dot = T::zero();
                        for x in 0..s.d {
                            dot += q[query + x] * k[s.key(b, head, j) + x];
                        }
                        *score = dot * T::of(s.scale.into());
                    }
                    let highest = scores.iter().fold(scores[0], |a, &b| a.maximum(b));
                    let mut mass = T::zero();
                    for score in &scores {
                        mass += (*score - highest).exp();
                    }
                    lse[(b * s.heads + head) * s.lq + i] = highest + mass.ln();
                    for x in 0..s.d {
                        let mut sum = T::zero();
                        for (j, score) in scores.iter().enumerate() {
                            sum += weigh((*score - highest).exp()) * v[s.key(b, head, j) + x];
                        }
                        y[query + x] = sum / mass;
                    }
                }
            }
        }
    }
}

impl Kernel for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/attention.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        self.shape.consts(Pass::Forward { causal: self.causal })
    }
    fn dims(&self) -> Vec<u32> {
        self.shape.dims()
    }
    fn lens(&self) -> Vec<usize> {
        let s = &self.shape;
        vec![s.q_len(), s.kv_len(), s.kv_len(), s.q_len(), s.rows()]
    }
    fn half_ok(&self) -> u32 {
        bindings(&[0, 1, 2, 3])
    }
    fn grid(&self) -> [u32; 3] {
        self.shape.grid(self.shape.lq)
    }
    fn variants(&self, caps: &Caps) -> Vec<Arc<dyn Kernel>> {
        if self.causal {
            return vec![];
        }
        let s = &self.shape;
        let lanes = Lanes {
            pass: Pass::Forward { causal: false },
            wgsl: ("attention_subgroup", include_str!("../../shaders/attention_subgroup.wgsl")),
            runs: if s.d <= 64 { 2 } else { 1 },
        };
        let mut all = coop::offer_attention(self, caps);
        all.extend(attention_variants::variants(self, s, lanes, caps));
        all
    }
    fn cost(&self) -> Cost {
        let words: usize = self.lens().iter().sum();
        Cost { flops: 4 * self.shape.products(), bytes: 4 * words as u64 }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        if self.causal {
            // Once a text: never hot.
            return self.naive(io);
        }
        let [Bind::In(q), Bind::In(k), Bind::In(v), Bind::Out(y), Bind::Out(lse), ..] =
            &mut io.binds
        else {
            wrong_binds(self.name())
        };
        attention::forward(&self.shape, q, k, v, y, lse);
    }
    naive_forms!();
}

/// Shapes of all attention kernels: (batch, heads, lq, lk, d).
const SHAPES: [(usize, usize, usize, usize, usize); 10] = [
    (1, 1, 1, 1, 1),
    (2, 2, 31, 1, 16),
    (1, 2, 32, 33, 32),
    (2, 3, 65, 41, 32),
    (1, 1, 47, 55, 40),
    (1, 2, 33, 97, 41),
    (1, 1, 61, 32, 64),
    (1, 2, 17, 29, 88),
    (1, 1, 35, 66, 128),
    (1, 1, 130, 129, 16),
];

pub(super) fn shapes() -> impl Iterator<Item = AttentionShape> {
    SHAPES.into_iter().map(|(batch, heads, lq, lk, d)| {
        let scale = (d as f32).sqrt().recip();
        AttentionShape { batch, heads, lq, lk, d, scale }
    })
}

pub(super) fn label(s: &AttentionShape) -> String {
    format!("b={} h={} lq={} lk={} d={}", s.batch, s.heads, s.lq, s.lk, s.d)
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (i, shape) in shapes().enumerate() {
        let fills = |std: f32| {
            let tokens = Fill::Normal { mean: 0.0, std };
            vec![tokens.clone(), tokens, Fill::normal(), Fill::Poison, Fill::Poison]
        };
        cases.push(Case::new(
            label(&shape),
            Attention { shape: shape.clone(), causal: false },
            fills(1.0),
        ));
        // Scores in the tens: one key takes nearly everything, and the maximum moves often.
        if i % 3 == 2 {
            let name = format!("{} peaky", label(&shape));
            let kernel = Attention { shape: shape.clone(), causal: false };
            cases.push(Case::new(name, kernel, fills(4.0)));
        }
        if shape.lq <= shape.lk {
            let name = format!("{} causal", label(&shape));
            cases.push(Case::new(name, Attention { shape, causal: true }, fills(1.0)));
        }
    }
    cases
}
