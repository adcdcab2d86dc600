//! AdamW (Loshchilov & Hutter 2019, as `torch.optim.AdamW`) over a flat segment of parameters.

use super::{Bind, Case, Const, Cost, Fill, Io, Kernel, Real, StepScalars, flag, float, grid_1d};
use super::{int, wrong_binds};
use crate::naive_forms;
use rayon::prelude::*;

/// Parameters that share one word of the decay mask.
pub const BLOCK: usize = 64;

/// One step, with g' = inv_lanes ctl[2] g (mean over lanes, clipped):
///
/// p <- p - lr weight_decay mask p;  m <- beta1 m + (1 - beta1) g';  v <- beta2 v + (1 - beta2) g'^2;
/// p <- p - lr (bias1 m) / (sqrt(bias2 v) + eps);  ema <- ema + (1 - ema_decay) (p - ema).
///
/// lr, the bias corrections and `ema_decay` are step scalars, computed on the host in f64. Nothing
/// changes where ctl[1] = 0 ([`super::grad_ctl::GradCtl`]).
///
/// Bindings: g [n], mask [n / 64], ctl [4], then read and written p [n], m [n], v [n] (, ema [n]).
#[derive(Debug, Clone)]
pub struct AdamW {
    /// A multiple of [`BLOCK`].
    pub n: usize,
    /// In f64, so that 1 - beta is rounded once: in f32, 1 - 0.999 is off by 5e-5 of itself.
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f32,
    pub weight_decay: f32,
    /// Keep an exponential moving average of the parameters.
    pub ema: bool,
}

impl AdamW {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let step = io.step;
        let (g, mask, ctl, p, m, v, mut ema) = match &mut io.binds {
            [
                Bind::In(g),
                Bind::In(mask),
                Bind::In(ctl),
                Bind::Out(p),
                Bind::Out(m),
                Bind::Out(v),
                rest @ ..,
            ] => match rest {
                [Bind::Out(ema), ..] => (g, mask, ctl, p, m, v, Some(ema)),
                _ => (g, mask, ctl, p, m, v, None),
            },
            _ => wrong_binds(self.name()),
        };
        if ctl[1] == T::zero() {
            return;
        }
        let f = |x: f32| T::of(x.into());
        for i in 0..self.n {
            let g = f(step.inv_lanes) * ctl[2] * g[i];
            p[i] = p[i] - f(step.lr) * f(self.weight_decay) * mask[i / BLOCK] * p[i];
            m[i] = T::of(self.beta1) * m[i] + T::of(1.0 - self.beta1) * g;
            v[i] = T::of(self.beta2) * v[i] + T::of(1.0 - self.beta2) * g * g;
            let (mhat, vhat) = (f(step.bias1) * m[i], f(step.bias2) * v[i]);
            p[i] = p[i] - f(step.lr) * mhat / (vhat.sqrt() + f(self.eps));
            if let Some(ema) = &mut ema {
                ema[i] = ema[i] + (T::one() - f(step.ema_decay)) * (p[i] - ema[i]);
            }
        }
    }

    /// One block of the cpu form. The loop is free of branches, so it vectorises.
    #[inline(always)]
    fn block(&self, step: &StepScalars, scale: f32, mask: f32, g: &[f32], state: State<'_>) {
        let keep = 1.0 - step.lr * self.weight_decay * mask;
        let (beta1, beta2) = (self.beta1 as f32, self.beta2 as f32);
        let (new1, new2) = ((1.0 - self.beta1) as f32, (1.0 - self.beta2) as f32);
        for (((p, m), v), &g) in state.p.iter_mut().zip(state.m).zip(state.v).zip(g) {
            let g = scale * g;
            *m = beta1 * *m + new1 * g;
            *v = beta2 * *v + new2 * g * g;
            let denominator = (step.bias2 * *v).sqrt() + self.eps;
            *p = keep * *p - step.lr * (step.bias1 * *m) / denominator;
        }
    }
}

/// One block of what the optimiser updates.
struct State<'a> {
    p: &'a mut [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
}

impl Kernel for AdamW {
    fn name(&self) -> &'static str {
        "adamw"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/adamw.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![
            float("BETA1", self.beta1 as f32),
            float("NEW1", (1.0 - self.beta1) as f32),
            float("BETA2", self.beta2 as f32),
            float("NEW2", (1.0 - self.beta2) as f32),
            float("EPS", self.eps),
            float("WEIGHT_DECAY", self.weight_decay),
            int("BLOCK", BLOCK / 4),
            flag("EMA", self.ema),
        ]
    }
    fn dims(&self) -> Vec<u32> {
        vec![(self.n / 4) as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let n = self.n;
        let mut lens = vec![n, n / BLOCK, 4, n, n, n];
        if self.ema {
            lens.push(n);
        }
        lens
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.n / 4, 256)
    }
    fn cost(&self) -> Cost {
        let (n, ema) = (self.n as u64, u64::from(self.ema));
        Cost { flops: (15 + 3 * ema) * n, bytes: 4 * (7 + 2 * ema) * n }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        const CHUNK: usize = 64 * BLOCK;
        let step = io.step;
        let [
            Bind::In(g),
            Bind::In(mask),
            Bind::In(ctl),
            Bind::Out(p),
            Bind::Out(m),
            Bind::Out(v),
            rest @ ..,
        ] = &mut io.binds
        else {
            wrong_binds(self.name())
        };
        if ctl[1] == 0.0 {
            return;
        }
        let scale = step.inv_lanes * ctl[2];
        let arch = pulp::Arch::new();
        let moments = m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK));
        let inputs = g.par_chunks(CHUNK).zip(mask.par_chunks(CHUNK / BLOCK));
        let chunks = p.par_chunks_mut(CHUNK).zip(moments).zip(inputs);
        let update = |p: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32], mask: &[f32]| {
            let blocks = p.chunks_exact_mut(BLOCK).zip(m.chunks_exact_mut(BLOCK));
            let blocks = blocks.zip(v.chunks_exact_mut(BLOCK));
            for ((((p, m), v), g), &mask) in blocks.zip(g.chunks_exact(BLOCK)).zip(mask) {
                self.block(&step, scale, mask, g, State { p, m, v });
            }
        };
        if let [Bind::Out(ema), ..] = rest {
            let blend = 1.0 - step.ema_decay;
            chunks.zip(ema.par_chunks_mut(CHUNK)).for_each(|(((p, (m, v)), (g, mask)), ema)| {
                arch.dispatch(|| {
                    update(p, m, v, g, mask);
                    ema.iter_mut().zip(p).for_each(|(e, p)| *e += blend * (*p - *e));
                });
            });
        } else {
            chunks.for_each(|((p, (m, v)), (g, mask))| {
                arch.dispatch(|| update(p, m, v, g, mask));
            });
        }
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    let ctl = |apply: f32, scale: f32| Fill::F32(vec![1.0, apply, scale, 0.0]);
    let settings = [
        (64, 0.01, false, ctl(1.0, 1.0)),
        (64 * 3, 0.0, true, ctl(1.0, 0.37)),
        (64 * 65, 0.1, true, ctl(1.0, 1.0)),
        (64 * 67, 0.1, true, ctl(0.0, 0.0)),
        (64 * 129, 0.05, false, ctl(1.0, 0.5)),
    ];
    for (n, weight_decay, ema, ctl) in settings {
        let step = StepScalars {
            lr: 3e-4,
            bias1: 1.0 / (1.0 - 0.9f32.powi(3)),
            bias2: 1.0 / (1.0 - 0.96f32.powi(3)),
            ema_decay: 0.99,
            inv_lanes: 0.5,
            ..StepScalars::default()
        };
        let kernel = AdamW { n, beta1: 0.9, beta2: 0.96, eps: 1e-8, weight_decay, ema };
        let variance = Fill::Uniform(0.0, 2.0);
        let mut fills = vec![Fill::normal(), Fill::Ints(0, 1), ctl];
        fills.extend([Fill::normal(), Fill::normal(), variance]);
        fills.extend(ema.then(Fill::normal));
        cases.push(Case::new(format!("n={n} ema={ema}"), kernel, fills).with_step(step));
    }
    cases
}
