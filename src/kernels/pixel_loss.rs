//! Penalised differences of two tensors, each element with a weight of its own if wanted: stage one
//! of their sum, and the gradient. [`super::sum_finish::SumFinish`] is stage two.

use super::cpu::math::vectorised;
use super::{
    Bind, Caps, Case, Const, Cost, Fill, Io, Kernel, Real, flag, float, grid_1d, int, subgroup,
    wrong_binds,
};
use crate::naive_forms;
use rayon::prelude::*;
use std::sync::Arc;

/// rho(d): what a difference costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Penalty {
    /// d^2.
    Squared,
    /// |d|, of slope 0 at 0.
    Absolute,
    /// d^2 / (2 beta) below |d| = beta, |d| - beta / 2 from there on (Huber's loss over beta; PyTorch's
    /// `smooth_l1_loss`). beta > 0.
    Smooth { beta: f32 },
}

impl Penalty {
    fn index(self) -> usize {
        match self {
            Penalty::Squared => 0,
            Penalty::Absolute => 1,
            Penalty::Smooth { .. } => 2,
        }
    }

    fn consts(self) -> Vec<Const> {
        let mut consts = vec![int("PENALTY", self.index())];
        if let Penalty::Smooth { beta } = self {
            consts.push(float("BETA", beta));
        }
        consts
    }

    /// rho(d), straight from the definition.
    #[inline(always)]
    fn value<T: Real>(self, d: T) -> T {
        match self {
            Penalty::Squared => d * d,
            Penalty::Absolute => d.abs(),
            Penalty::Smooth { beta } => {
                let beta = T::of(beta.into());
                match d.abs() < beta {
                    true => T::of(0.5) * d * d / beta,
                    false => d.abs() - T::of(0.5) * beta,
                }
            }
        }
    }

    /// rho'(d).
    #[inline(always)]
    fn slope<T: Real>(self, d: T) -> T {
        let sign = match (d > T::zero(), d < T::zero()) {
            (true, _) => T::one(),
            (_, true) => -T::one(),
            _ => T::zero(),
        };
        match self {
            Penalty::Squared => T::of(2.0) * d,
            Penalty::Absolute => sign,
            Penalty::Smooth { beta } => {
                let beta = T::of(beta.into());
                if d.abs() < beta { d / beta } else { sign }
            }
        }
    }
}

/// partials[p] = sum of w rho(a - b) over chunk p, chunks of ceil(n / partials) elements. Bindings:
/// a [n], b [n], (weights w [n],) partials [partials].
#[derive(Debug, Clone)]
pub struct PixelLoss {
    pub n: usize,
    pub penalty: Penalty,
    pub weighted: bool,
    /// At most 65,535.
    pub partials: usize,
}

impl PixelLoss {
    fn chunk(&self) -> usize {
        self.n.div_ceil(self.partials)
    }

    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let (a, b, w, partials) = match &mut io.binds {
            [Bind::In(a), Bind::In(b), Bind::In(w), Bind::Out(p), ..] => (*a, *b, Some(*w), p),
            [Bind::In(a), Bind::In(b), Bind::Out(p), ..] => (*a, *b, None, p),
            _ => wrong_binds(self.name()),
        };
        for (p, partial) in partials.iter_mut().enumerate() {
            let mut sum = T::zero();
            for i in p * self.chunk()..((p + 1) * self.chunk()).min(self.n) {
                let rho = self.penalty.value(a[i] - b[i]);
                sum += w.map_or(rho, |w| w[i] * rho);
            }
            *partial = sum;
        }
    }
}

/// Sum of w rho(a - b) over slices of one length in 16 interleaved lanes.
#[inline(always)]
fn sum(penalty: Penalty, a: &[f32], b: &[f32], w: Option<&[f32]>) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0.0f32; LANES];
    let pairs = a.chunks(LANES).zip(b.chunks(LANES));
    match w {
        None => pairs.for_each(|(a, b)| {
            let each = lanes.iter_mut().zip(a.iter().zip(b));
            each.for_each(|(lane, (&a, &b))| *lane += penalty.value(a - b));
        }),
        Some(w) => pairs.zip(w.chunks(LANES)).for_each(|((a, b), w)| {
            let each = lanes.iter_mut().zip(a.iter().zip(b)).zip(w);
            each.for_each(|((lane, (&a, &b)), &w)| *lane += w * penalty.value(a - b));
        }),
    }
    let mut half = LANES / 2;
    while half > 0 {
        for l in 0..half {
            lanes[l] += lanes[l + half];
        }
        half /= 2;
    }
    lanes[0]
}

impl Kernel for PixelLoss {
    fn name(&self) -> &'static str {
        "pixel_loss"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/pixel_loss.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        let mut consts = self.penalty.consts();
        consts.extend([flag("WEIGHTED", self.weighted), subgroup::off()]);
        consts
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.n as u32, self.chunk() as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let mut lens = vec![self.n; if self.weighted { 3 } else { 2 }];
        lens.push(self.partials);
        lens
    }
    fn grid(&self) -> [u32; 3] {
        [self.partials as u32, 1, 1]
    }
    fn cost(&self) -> Cost {
        let (n, weighted) = (self.n as u64, u64::from(self.weighted));
        Cost { flops: (3 + weighted) * n, bytes: 4 * ((2 + weighted) * n + self.partials as u64) }
    }
    fn variants(&self, caps: &Caps) -> Vec<Arc<dyn Kernel>> {
        subgroup::offer(self, caps)
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let (a, b, w, partials) = match &mut io.binds {
            [Bind::In(a), Bind::In(b), Bind::In(w), Bind::Out(p), ..] => (*a, *b, Some(*w), p),
            [Bind::In(a), Bind::In(b), Bind::Out(p), ..] => (*a, *b, None, p),
            _ => wrong_binds(self.name()),
        };
        partials.par_iter_mut().enumerate().for_each(|(p, partial)| {
            let from = (p * self.chunk()).min(self.n);
            let to = (from + self.chunk()).min(self.n);
            let (a, b, w) = (&a[from..to], &b[from..to], w.map(|w| &w[from..to]));
            *partial = vectorised(
                #[inline(always)]
                || match self.penalty {
                    Penalty::Squared => sum(Penalty::Squared, a, b, w),
                    Penalty::Absolute => sum(Penalty::Absolute, a, b, w),
                    smooth => sum(smooth, a, b, w),
                },
            );
        });
    }
    naive_forms!();
}

/// da (+)= factor dloss w rho'(a - b): bindings a [n], b [n], dloss [1], (weights w [n],) da [n]. The
/// gradient of b is that of a with the sign of the factor changed.
#[derive(Debug, Clone)]
pub struct PixelLossGrad {
    pub n: usize,
    pub penalty: Penalty,
    pub weighted: bool,
    /// Finite.
    pub factor: f32,
    /// Add to da instead of writing it.
    pub accum: bool,
}

impl PixelLossGrad {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let (a, b, dloss, w, da) = match &mut io.binds {
            [Bind::In(a), Bind::In(b), Bind::In(l), Bind::In(w), Bind::Out(da), ..] => {
                (*a, *b, l[0], Some(*w), da)
            }
            [Bind::In(a), Bind::In(b), Bind::In(l), Bind::Out(da), ..] => (*a, *b, l[0], None, da),
            _ => wrong_binds(self.name()),
        };
        for i in 0..self.n {
            let g = T::of(self.factor.into()) * dloss * self.penalty.slope(a[i] - b[i]);
            let g = w.map_or(g, |w| w[i] * g);
            da[i] = if self.accum { da[i] + g } else { g };
        }
    }
}

impl Kernel for PixelLossGrad {
    fn name(&self) -> &'static str {
        "pixel_loss_grad"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/pixel_loss_grad.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        let mut consts = self.penalty.consts();
        consts.extend([
            flag("WEIGHTED", self.weighted),
            float("FACTOR", self.factor),
            flag("ACCUM", self.accum),
        ]);
        consts
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.n as u32]
    }
    fn lens(&self) -> Vec<usize> {
        match self.weighted {
            true => vec![self.n, self.n, 1, self.n, self.n],
            false => vec![self.n, self.n, 1, self.n],
        }
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.n, 256)
    }
    fn cost(&self) -> Cost {
        let (n, more) = (self.n as u64, u64::from(self.accum) + u64::from(self.weighted));
        Cost { flops: (3 + more) * n, bytes: (3 + more) * 4 * n }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        const CHUNK: usize = 16_384;
        let (a, b, dloss, w, da) = match &mut io.binds {
            [Bind::In(a), Bind::In(b), Bind::In(l), Bind::In(w), Bind::Out(da), ..] => {
                (*a, *b, l[0], Some(*w), da)
            }
            [Bind::In(a), Bind::In(b), Bind::In(l), Bind::Out(da), ..] => (*a, *b, l[0], None, da),
            _ => wrong_binds(self.name()),
        };
        let scale = self.factor * dloss;
        da.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, da)| {
            let from = chunk * CHUNK;
            let each = da.iter_mut().zip(&a[from..]).zip(&b[from..]).enumerate();
            for (i, ((da, &a), &b)) in each {
                let g = scale * self.penalty.slope(a - b) * w.map_or(1.0, |w| w[from + i]);
                *da = if self.accum { *da + g } else { g };
            }
        });
    }
    naive_forms!();
}

const PENALTIES: [Penalty; 3] =
    [Penalty::Squared, Penalty::Absolute, Penalty::Smooth { beta: 0.75 }];

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (turn, (n, partials)) in [(1, 1), (257, 2), (61, 64), (5003, 3)].into_iter().enumerate() {
        for penalty in PENALTIES {
            for weighted in [false, true] {
                let kernel = PixelLoss { n, penalty, weighted, partials };
                let name = format!("{penalty:?} n={n} partials={partials} weighted={weighted}");
                let exact = turn % 2 == 1 && penalty.index() < 2;
                let fill = if exact { Fill::Ints(-9, 9) } else { Fill::normal() };
                let mut fills = vec![fill; kernel.lens().len() - 1];
                fills.push(Fill::Poison);
                let case = Case::new(name, kernel, fills);
                cases.push(if exact { case.exact() } else { case });
            }
        }
    }
    cases
}

pub fn grad_cases() -> Vec<Case> {
    let mut cases = vec![];
    for (n, factor) in [(1, 2.0), (61, 1.0 / 61.0), (1025, -0.5)] {
        for penalty in PENALTIES {
            for (weighted, accum) in [(false, false), (true, true), (false, true), (true, false)] {
                let kernel = PixelLossGrad { n, penalty, weighted, factor, accum };
                let name = format!("{penalty:?} n={n} weighted={weighted} accum={accum}");
                let mut fills = vec![Fill::normal(); kernel.lens().len() - 1];
                fills.push(if accum { Fill::normal() } else { Fill::Poison });
                cases.push(Case::new(name, kernel, fills));
            }
        }
    }
    // No slope where nothing differs.
    let equal = Fill::F32((0..41).map(|i| i as f32 / 8.0).collect());
    for penalty in PENALTIES {
        let kernel = PixelLossGrad { n: 41, penalty, weighted: false, factor: 1.0, accum: false };
        let fills = vec![equal.clone(), equal.clone(), Fill::Ints(2, 5), Fill::Poison];
        cases.push(Case::new(format!("{penalty:?} of equal tensors"), kernel, fills).exact());
    }
    cases
}
