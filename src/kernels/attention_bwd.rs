//! Backward of attention. With p = exp(scale q k' - lse), dp = dy v' and delta = sum over a head of
//! y dy: ds = scale p (dp - delta), dq = ds k, dk = ds' q, dv = p' dy. Two kernels, one that owns
//! keys and one that owns queries, so that nothing is added atomically.

use super::attention::{AttentionShape, Pass, label, shapes};
use super::attention_variants::{self, Lanes};
use super::cpu::attention;
use super::{
    Bind, Caps, Case, Const, Cost, Fill, Io, Kernel, Real, bindings, flag, grid_1d, int,
    wrong_binds,
};
use crate::naive_forms;
use std::sync::Arc;

/// delta = sum over a head's components of y dy.
/// Bindings: y, dy [batch, lq, heads * d], delta [batch, heads, lq].
#[derive(Debug, Clone)]
pub struct AttentionDelta {
    pub shape: AttentionShape,
}

impl AttentionDelta {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(y), Bind::In(dy), Bind::Out(delta), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let s = &self.shape;
        for b in 0..s.batch {
            for head in 0..s.heads {
                for i in 0..s.lq {
                    let mut sum = T::zero();
                    for x in s.query(b, head, i)..s.query(b, head, i) + s.d {
                        sum += y[x] * dy[x];
                    }
                    delta[(b * s.heads + head) * s.lq + i] = sum;
                }
            }
        }
    }
}

impl Kernel for AttentionDelta {
    fn name(&self) -> &'static str {
        "attention_delta"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/attention_delta.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![flag("VEC4", self.shape.d.is_multiple_of(4)), int("D", self.shape.d)]
    }
    fn dims(&self) -> Vec<u32> {
        let s = &self.shape;
        vec![(s.batch * s.lq) as u32, s.lq as u32, s.heads as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.shape.q_len(), self.shape.q_len(), self.shape.rows()]
    }
    fn half_ok(&self) -> u32 {
        bindings(&[0, 1])
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.shape.rows(), 64)
    }
    fn cost(&self) -> Cost {
        let n = self.shape.q_len() as u64;
        Cost { flops: 2 * n, bytes: 8 * n }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [Bind::In(y), Bind::In(dy), Bind::Out(delta), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        attention::delta(&self.shape, y, dy, delta);
    }
    naive_forms!();
}

/// p and dp of one query with one key, straight from the formulas.
fn pair<T: Real>(
    s: &AttentionShape,
    [q, k, v, dy]: [&[T]; 4],
    query: usize,
    key: usize,
    lse: T,
) -> (T, T) {
    let (mut score, mut dp) = (T::zero(), T::zero());
    for x in 0..s.d {
        score += q[query + x] * k[key + x];
        dp += dy[query + x] * v[key + x];
    }
    ((score * T::of(s.scale.into()) - lse).exp(), dp)
}

/// Bindings: q, k, v, dy, lse, delta, dk, dv.
#[derive(Debug, Clone)]
pub struct AttentionBwdKv {
    pub shape: AttentionShape,
}

impl AttentionBwdKv {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [
            Bind::In(q),
            Bind::In(k),
            Bind::In(v),
            Bind::In(dy),
            Bind::In(lse),
            Bind::In(delta),
            Bind::Out(dk),
            Bind::Out(dv),
        ] = &mut io.binds
        else {
            wrong_binds(self.name())
        };
        let s = &self.shape;
        for b in 0..s.batch {
            for head in 0..s.heads {
                for j in 0..s.lk {
                    let key = s.key(b, head, j);
                    let (mut key_sum, mut value_sum) = (vec![T::zero(); s.d], vec![T::zero(); s.d]);
                    for i in 0..s.lq {
                        let (query, row) = (s.query(b, head, i), (b * s.heads + head) * s.lq + i);
                        let (p, dp) = pair(s, [*q, *k, *v, *dy], query, key, lse[row]);
                        for x in 0..s.d {
                            key_sum[x] += p * (dp - delta[row]) * q[query + x];
                            value_sum[x] += p * dy[query + x];
                        }
                    }
                    for x in 0..s.d {
                        dk[key + x] = key_sum[x] * T::of(s.scale.into());
                        dv[key + x] = value_sum[x];
                    }
                }
            }
        }
    }
}

impl Kernel for AttentionBwdKv {
    fn name(&self) -> &'static str {
        "attention_bwd_kv"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/attention_bwd_kv.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        self.shape.consts(Pass::Keys)
    }
    fn dims(&self) -> Vec<u32> {
        self.shape.dims()
    }
    fn lens(&self) -> Vec<usize> {
        let s = &self.shape;
        let (q, kv) = (s.q_len(), s.kv_len());
        vec![q, kv, kv, q, s.rows(), s.rows(), kv, kv]
    }
    fn half_ok(&self) -> u32 {
        bindings(&[0, 1, 2, 3, 6, 7])
    }
    fn grid(&self) -> [u32; 3] {
        self.shape.grid(self.shape.lk)
    }
    fn variants(&self, caps: &Caps) -> Vec<Arc<dyn Kernel>> {
        let lanes = Lanes {
            pass: Pass::Keys,
            wgsl: (
                "attention_bwd_kv_subgroup",
                include_str!("../../shaders/attention_bwd_kv_subgroup.wgsl"),
            ),
            runs: if self.shape.d <= 32 { 2 } else { 1 },
        };
        attention_variants::variants(self, &self.shape, lanes, caps)
    }
    fn cost(&self) -> Cost {
        let words: usize = self.lens().iter().sum();
        Cost { flops: 8 * self.shape.products(), bytes: 4 * words as u64 }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [
            Bind::In(q),
            Bind::In(k),
            Bind::In(v),
            Bind::In(dy),
            Bind::In(lse),
            Bind::In(delta),
            Bind::Out(dk),
            Bind::Out(dv),
        ] = &mut io.binds
        else {
            wrong_binds(self.name())
        };
        attention::backward_kv(&self.shape, [*q, *k, *v, *dy], lse, delta, dk, dv);
    }
    naive_forms!();
}

/// Bindings: q, k, v, dy, lse, delta, dq.
#[derive(Debug, Clone)]
pub struct AttentionBwdQ {
    pub shape: AttentionShape,
}

impl AttentionBwdQ {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [
            Bind::In(q),
            Bind::In(k),
            Bind::In(v),
            Bind::In(dy),
            Bind::In(lse),
            Bind::In(delta),
            Bind::Out(dq),
            ..,
        ] = &mut io.binds
        else {
            wrong_binds(self.name())
        };
        let s = &self.shape;
        for b in 0..s.batch {
            for head in 0..s.heads {
                for i in 0..s.lq {
                    let (query, row) = (s.query(b, head, i), (b * s.heads + head) * s.lq + i);
                    let mut sum = vec![T::zero(); s.d];
                    for j in 0..s.lk {
                        let key = s.key(b, head, j);
                        let (p, dp) = pair(s, [*q, *k, *v, *dy], query, key, lse[row]);
                        for x in 0..s.d {
                            sum[x] += p * (dp - delta[row]) * k[key + x];
                        }
                    }
                    for x in 0..s.d {
                        dq[query + x] = sum[x] * T::of(s.scale.into());
                    }
                }
            }
        }
    }
}

impl Kernel for AttentionBwdQ {
    fn name(&self) -> &'static str {
        "attention_bwd_q"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/attention_bwd_q.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        self.shape.consts(Pass::Queries)
    }
    fn dims(&self) -> Vec<u32> {
        self.shape.dims()
    }
    fn lens(&self) -> Vec<usize> {
        let s = &self.shape;
        let (q, kv) = (s.q_len(), s.kv_len());
        vec![q, kv, kv, q, s.rows(), s.rows(), q]
    }
    fn half_ok(&self) -> u32 {
        bindings(&[0, 1, 2, 3, 6])
    }
    fn grid(&self) -> [u32; 3] {
        self.shape.grid(self.shape.lq)
    }
    fn variants(&self, caps: &Caps) -> Vec<Arc<dyn Kernel>> {
        let lanes = Lanes {
            pass: Pass::Queries,
            wgsl: (
                "attention_bwd_q_subgroup",
                include_str!("../../shaders/attention_bwd_q_subgroup.wgsl"),
            ),
            runs: if self.shape.d <= 32 { 2 } else { 1 },
        };
        attention_variants::variants(self, &self.shape, lanes, caps)
    }
    fn cost(&self) -> Cost {
        let words: usize = self.lens().iter().sum();
        Cost { flops: 6 * self.shape.products(), bytes: 4 * words as u64 }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [
            Bind::In(q),
            Bind::In(k),
            Bind::In(v),
            Bind::In(dy),
            Bind::In(lse),
            Bind::In(delta),
            Bind::Out(dq),
            ..,
        ] = &mut io.binds
        else {
            wrong_binds(self.name())
        };
        attention::backward_q(&self.shape, [*q, *k, *v, *dy], lse, delta, dq);
    }
    naive_forms!();
}

pub fn delta_cases() -> Vec<Case> {
    let case = |shape: AttentionShape| {
        let fills = vec![Fill::Ints(-4, 4), Fill::Ints(-4, 4), Fill::Poison];
        Case::new(label(&shape), AttentionDelta { shape }, fills).exact()
    };
    shapes().map(case).collect()
}

/// q, k, v, dy, lse, delta: lse above the scores, as a log-sum-exp is.
fn inputs() -> Vec<Fill> {
    let mut fills = vec![Fill::normal(); 4];
    fills.extend([Fill::Uniform(1.0, 4.0), Fill::normal()]);
    fills
}

pub fn kv_cases() -> Vec<Case> {
    let case = |shape: AttentionShape| {
        let fills = [inputs(), vec![Fill::Poison; 2]].concat();
        Case::new(label(&shape), AttentionBwdKv { shape }, fills)
    };
    shapes().map(case).collect()
}

pub fn q_cases() -> Vec<Case> {
    let case = |shape: AttentionShape| {
        let fills = [inputs(), vec![Fill::Poison]].concat();
        Case::new(label(&shape), AttentionBwdQ { shape }, fills)
    };
    shapes().map(case).collect()
}
