//! Layer norm (Ba, Kiros & Hinton 2016) and root-mean-square norm (Zhang & Sennrich 2019) over rows,
//! plain, affine, or modulated per sample (the adaptive norms of diffusion transformers).

use super::cpu::blocks::rows_per_block;
use super::cpu::math::vectorised;
use super::cpu::reduce::sum;
use super::{
    Bind, Caps, Case, Const, Cost, Fill, Io, Kernel, Real, bindings, flag, float, grid_1d, int,
    subgroup, wrong_binds,
};
use crate::naive_forms;
use rayon::prelude::*;
use std::sync::Arc;

/// What follows the normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormMode {
    /// y = xhat.
    Plain,
    /// y = gamma xhat + beta, gamma and beta [c].
    Affine,
    /// y = xhat (1 + scale) + shift with m [rows / rows_per_sample, 2c] = [scale | shift].
    Modulate { rows_per_sample: usize },
}

impl NormMode {
    pub(super) fn index(self) -> usize {
        match self {
            NormMode::Plain => 0,
            NormMode::Affine => 1,
            NormMode::Modulate { .. } => 2,
        }
    }
}

/// x [rows, c], each row normalised over its c channels.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerNormShape {
    pub rows: usize,
    pub c: usize,
    /// Added to the biased variance, or to the mean of squares.
    pub eps: f32,
    /// The mean is taken off first; without, this is the root-mean-square norm, whose mean counts as 0.
    pub centred: bool,
    pub mode: NormMode,
}

impl LayerNormShape {
    pub fn len(&self) -> usize {
        self.rows * self.c
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Words of the bindings between x and y: gamma and beta, or m.
    fn factors(&self) -> Vec<usize> {
        match self.mode {
            NormMode::Plain => vec![],
            NormMode::Affine => vec![self.c, self.c],
            NormMode::Modulate { rows_per_sample } => {
                vec![self.rows / rows_per_sample * 2 * self.c]
            }
        }
    }
    pub(super) fn lanes(&self) -> usize {
        if self.c.is_multiple_of(4) { 4 } else { 1 }
    }
    /// Invocations that share a row.
    pub(super) fn workgroup(&self) -> usize {
        (self.c / self.lanes()).next_power_of_two().clamp(32, 256)
    }
    pub(super) fn row_dims(&self) -> Vec<u32> {
        match self.mode {
            NormMode::Modulate { rows_per_sample } => {
                vec![self.rows as u32, rows_per_sample as u32]
            }
            _ => vec![self.rows as u32],
        }
    }
}

/// Bindings: x, then gamma, beta (affine) or m (modulate), y, stats [rows, 2] = (mean, rstd), the mean 0
/// where rows are not centred.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    pub shape: LayerNormShape,
}

/// x; gamma and beta, or m twice, or nothing; y; stats.
type Split<'a, 'b, T> = (&'b [T], [&'b [T]; 2], &'a mut [T], &'a mut [T]);

impl LayerNorm {
    fn split<'a, 'b, T>(&self, io: &'a mut Io<'b, T>) -> Split<'a, 'b, T> {
        match &mut io.binds {
            [Bind::In(x), Bind::Out(y), Bind::Out(stats), ..] => (x, [&[]; 2], y, stats),
            [Bind::In(x), Bind::In(gamma), Bind::In(beta), Bind::Out(y), Bind::Out(stats), ..] => {
                (x, [gamma, beta], y, stats)
            }
            [Bind::In(x), Bind::In(m), Bind::Out(y), Bind::Out(stats), ..] => (x, [m, m], y, stats),
            _ => wrong_binds(self.name()),
        }
    }

    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let c = self.shape.c;
        let (x, factors, y, stats) = self.split(io);
        for row in 0..self.shape.rows {
            let mut sum = T::zero();
            for i in 0..c {
                sum += x[row * c + i];
            }
            let mean = match self.shape.centred {
                true => sum / T::of(c as f64),
                false => T::zero(),
            };
            let mut squares = T::zero();
            for i in 0..c {
                squares += (x[row * c + i] - mean) * (x[row * c + i] - mean);
            }
            let variance = squares / T::of(c as f64);
            let rstd = T::one() / (variance + T::of(self.shape.eps.into())).sqrt();
            (stats[2 * row], stats[2 * row + 1]) = (mean, rstd);
            for i in 0..c {
                let xhat = (x[row * c + i] - mean) * rstd;
                y[row * c + i] = match self.shape.mode {
                    NormMode::Plain => xhat,
                    NormMode::Affine => factors[0][i] * xhat + factors[1][i],
                    NormMode::Modulate { rows_per_sample } => {
                        let m = &factors[0][row / rows_per_sample * 2 * c..];
                        xhat * (T::one() + m[i]) + m[c + i]
                    }
                };
            }
        }
    }
}

impl Kernel for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/layer_norm.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![
            flag("VEC4", self.shape.lanes() == 4),
            int("MODE", self.shape.mode.index()),
            flag("CENTRED", self.shape.centred),
            int("CHANNELS", self.shape.c),
            int("WG", self.shape.workgroup()),
            float("EPS", self.shape.eps),
            subgroup::off(),
        ]
    }
    fn dims(&self) -> Vec<u32> {
        self.shape.row_dims()
    }
    fn lens(&self) -> Vec<usize> {
        let s = &self.shape;
        [vec![s.len()], s.factors(), vec![s.len(), 2 * s.rows]].concat()
    }
    fn half_ok(&self) -> u32 {
        match self.shape.mode {
            NormMode::Plain => bindings(&[0, 1]),
            NormMode::Affine => bindings(&[0, 3]),
            NormMode::Modulate { .. } => bindings(&[0, 1, 2]),
        }
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.shape.rows, 1)
    }
    fn cost(&self) -> Cost {
        let words: usize = self.lens().iter().sum();
        Cost { flops: 8 * self.shape.len() as u64, bytes: 4 * words as u64 }
    }
    fn variants(&self, caps: &Caps) -> Vec<Arc<dyn Kernel>> {
        subgroup::offer(self, caps)
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let LayerNormShape { c, eps, mode, centred, .. } = self.shape;
        let (x, factors, y, stats) = self.split(io);
        let block = rows_per_block(c);
        let outputs = y.par_chunks_mut(block * c).zip(stats.par_chunks_mut(block * 2));
        outputs.zip(x.par_chunks(block * c)).enumerate().for_each(|(b, ((y, stats), x))| {
            vectorised(
                #[inline(always)]
                || {
                    let rows = x.chunks_exact(c).zip(y.chunks_exact_mut(c));
                    for (r, ((x, y), stat)) in rows.zip(stats.chunks_exact_mut(2)).enumerate() {
                        let (mean, rstd) = row_stats(x, eps, centred);
                        (stat[0], stat[1]) = (mean, rstd);
                        match mode {
                            NormMode::Plain => {
                                for (y, &x) in y.iter_mut().zip(x) {
                                    *y = (x - mean) * rstd;
                                }
                            }
                            NormMode::Affine => {
                                let factors = factors[0].iter().zip(factors[1]);
                                for ((y, &x), (&gamma, &beta)) in y.iter_mut().zip(x).zip(factors) {
                                    *y = gamma * ((x - mean) * rstd) + beta;
                                }
                            }
                            NormMode::Modulate { rows_per_sample } => {
                                let m = &factors[0][(b * block + r) / rows_per_sample * 2 * c..];
                                let factors = m[..c].iter().zip(&m[c..2 * c]);
                                for ((y, &x), (&scale, &shift)) in y.iter_mut().zip(x).zip(factors)
                                {
                                    *y = (x - mean) * rstd * (1.0 + scale) + shift;
                                }
                            }
                        }
                    }
                },
            );
        });
    }
    naive_forms!();
}

/// Mean and 1 / sqrt(variance + eps) of a row, the mean relative to the first element; or 0 and
/// 1 / sqrt(mean of squares + eps).
#[inline(always)]
fn row_stats(x: &[f32], eps: f32, centred: bool) -> (f32, f32) {
    let (anchor, count) = (x[0], x.len() as f32);
    let mean = if centred { anchor + sum(x, |v| v - anchor) / count } else { 0.0 };
    let variance = sum(x, |v| (v - mean) * (v - mean)) / count;
    (mean, 1.0 / (variance + eps).sqrt())
}

/// Shapes of all layer-norm kernels: (samples, rows of a sample, c).
const SHAPES: [(usize, usize, usize); 7] =
    [(1, 1, 1), (2, 3, 41), (7, 5, 32), (2, 65, 128), (3, 1, 260), (1, 66, 55), (2, 1, 1030)];

pub(super) fn shapes() -> Vec<LayerNormShape> {
    let mut shapes = vec![];
    for (samples, rows_per_sample, c) in SHAPES {
        let rows = samples * rows_per_sample;
        for mode in [NormMode::Plain, NormMode::Affine, NormMode::Modulate { rows_per_sample }] {
            for centred in [true, false] {
                shapes.push(LayerNormShape { rows, c, eps: 1e-5, centred, mode });
            }
        }
    }
    shapes
}

pub(super) fn label(s: &LayerNormShape) -> String {
    let kind = if s.centred { "" } else { " rms" };
    format!("rows={} c={} {:?}{kind}", s.rows, s.c, s.mode)
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (i, shape) in shapes().into_iter().enumerate() {
        // An offset thirty times the spread for every fourth. (From some hundreds on no bound is left:
        // the variance may then be an error of rounding, and its root anything.)
        let x = if i % 4 == 3 {
            Fill::Normal { mean: 30.0, std: 1.0 }
        } else {
            Fill::Normal { mean: 0.3, std: 2.0 }
        };
        let factors = vec![Fill::normal(); shape.factors().len()];
        let fills = [vec![x], factors, vec![Fill::Poison, Fill::Poison]].concat();
        cases.push(Case::new(label(&shape), LayerNorm { shape }, fills));
    }
    cases
}
