//! Backward of layer norm: to x, and to gamma and beta or to the modulation m.

use super::cpu::blocks::rows_per_block;
use super::cpu::math::vectorised;
use super::cpu::reduce::{sum, sum2};
use super::layer_norm::{LayerNormShape, NormMode, label, shapes};
use super::{
    Bind, Caps, Case, Const, Cost, Fill, Io, Kernel, Real, bindings, flag, grid_1d, int, subgroup,
    wrong_binds,
};
use crate::naive_forms;
use rayon::prelude::*;
use std::cell::RefCell;
use std::sync::Arc;

/// dx = rstd (g - mean(g) - xhat mean(g xhat)) with g = dy, gamma dy or (1 + scale) dy; without mean(g)
/// where rows are not centred.
/// Bindings: x, stats, then gamma (affine) or m (modulate), dy, dx.
#[derive(Debug, Clone)]
pub struct LayerNormBwd {
    pub shape: LayerNormShape,
    /// Add to dx instead of writing it.
    pub accum: bool,
}

/// x; stats; gamma, or m, or nothing; dy; dx.
type Split<'a, 'b, T> = (&'b [T], &'b [T], &'b [T], &'b [T], &'a mut [T]);

impl LayerNormBwd {
    fn split<'a, 'b, T>(&self, io: &'a mut Io<'b, T>) -> Split<'a, 'b, T> {
        match &mut io.binds {
            [Bind::In(x), Bind::In(stats), Bind::In(dy), Bind::Out(dx), ..] => {
                (x, stats, &[], dy, dx)
            }
            [Bind::In(x), Bind::In(stats), Bind::In(factor), Bind::In(dy), Bind::Out(dx), ..] => {
                (x, stats, factor, dy, dx)
            }
            _ => wrong_binds(self.name()),
        }
    }

    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let c = self.shape.c;
        let (x, stats, factor, dy, dx) = self.split(io);
        for row in 0..self.shape.rows {
            let (mean, rstd) = (stats[2 * row], stats[2 * row + 1]);
            let xhat = |i: usize| (x[row * c + i] - mean) * rstd;
            let g = |i: usize| match self.shape.mode {
                NormMode::Plain => dy[row * c + i],
                NormMode::Affine => dy[row * c + i] * factor[i],
                NormMode::Modulate { rows_per_sample } => {
                    dy[row * c + i] * (T::one() + factor[row / rows_per_sample * 2 * c + i])
                }
            };
            let (mut plain, mut with_xhat) = (T::zero(), T::zero());
            for i in 0..c {
                plain += g(i);
                with_xhat += g(i) * xhat(i);
            }
            let mean_g = match self.shape.centred {
                true => plain / T::of(c as f64),
                false => T::zero(),
            };
            let mean_g_xhat = with_xhat / T::of(c as f64);
            for i in 0..c {
                let d = rstd * (g(i) - mean_g - xhat(i) * mean_g_xhat);
                dx[row * c + i] = if self.accum { dx[row * c + i] + d } else { d };
            }
        }
    }
}

impl Kernel for LayerNormBwd {
    fn name(&self) -> &'static str {
        "layer_norm_bwd"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/layer_norm_bwd.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![
            flag("VEC4", self.shape.lanes() == 4),
            int("MODE", self.shape.mode.index()),
            flag("CENTRED", self.shape.centred),
            int("CHANNELS", self.shape.c),
            int("WG", self.shape.workgroup()),
            flag("ACCUM", self.accum),
            subgroup::off(),
        ]
    }
    fn dims(&self) -> Vec<u32> {
        self.shape.row_dims()
    }
    fn lens(&self) -> Vec<usize> {
        let s = &self.shape;
        let factor = match s.mode {
            NormMode::Plain => vec![],
            NormMode::Affine => vec![s.c],
            NormMode::Modulate { rows_per_sample } => vec![s.rows / rows_per_sample * 2 * s.c],
        };
        [vec![s.len(), 2 * s.rows], factor, vec![s.len(), s.len()]].concat()
    }
    fn half_ok(&self) -> u32 {
        match self.shape.mode {
            NormMode::Plain => bindings(&[0, 2, 3]),
            NormMode::Affine => bindings(&[0, 3, 4]),
            NormMode::Modulate { .. } => bindings(&[0, 2, 3, 4]),
        }
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.shape.rows, 1)
    }
    fn cost(&self) -> Cost {
        let words: usize = self.lens().iter().sum();
        let again = if self.accum { self.shape.len() } else { 0 };
        Cost { flops: 11 * self.shape.len() as u64, bytes: 4 * (words + again) as u64 }
    }
    fn variants(&self, caps: &Caps) -> Vec<Arc<dyn Kernel>> {
        subgroup::offer(self, caps)
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let LayerNormShape { c, mode, centred, .. } = self.shape;
        let accum = self.accum;
        let (x, stats, factor, dy, dx) = self.split(io);
        let block = rows_per_block(c);
        dx.par_chunks_mut(block * c).enumerate().for_each(|(b, dx)| {
            SCRATCH.with_borrow_mut(|g| {
                g.resize(c, 0.0);
                vectorised(
                    #[inline(always)]
                    || {
                        for (row, dx) in (b * block..).zip(dx.chunks_exact_mut(c)) {
                            let (x, dy) = (&x[row * c..][..c], &dy[row * c..][..c]);
                            match mode {
                                NormMode::Plain => g.copy_from_slice(dy),
                                NormMode::Affine => product(g, dy, factor, |gamma| gamma),
                                NormMode::Modulate { rows_per_sample } => {
                                    let m = &factor[row / rows_per_sample * 2 * c..];
                                    product(g, dy, m, |scale| 1.0 + scale);
                                }
                            }
                            let stat = (stats[2 * row], stats[2 * row + 1]);
                            if accum {
                                row_gradient(x, g, stat, centred, dx, |dx, d| dx + d);
                            } else {
                                row_gradient(x, g, stat, centred, dx, |_, d| d);
                            }
                        }
                    },
                );
            });
        });
    }
    naive_forms!();
}

thread_local! {
    /// The upstream gradient of one normalised row.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

#[inline(always)]
fn product(g: &mut [f32], dy: &[f32], factor: &[f32], f: impl Fn(f32) -> f32) {
    for ((g, &dy), &factor) in g.iter_mut().zip(dy).zip(factor) {
        *g = dy * f(factor);
    }
}

#[inline(always)]
fn row_gradient(
    x: &[f32],
    g: &[f32],
    (mean, rstd): (f32, f32),
    centred: bool,
    dx: &mut [f32],
    store: impl Fn(f32, f32) -> f32,
) {
    let count = x.len() as f32;
    let mean_g = if centred { sum(g, |g| g) / count } else { 0.0 };
    let mean_g_xhat = sum2(x, g, |x, g| g * ((x - mean) * rstd)) / count;
    for ((dx, &x), &g) in dx.iter_mut().zip(x).zip(g) {
        let xhat = (x - mean) * rstd;
        *dx = store(*dx, rstd * (g - mean_g - xhat * mean_g_xhat));
    }
}

/// Sums of dy xhat and of dy over chunks of rows. Affine: [`LayerNormBwdParams::splits`] chunks of
/// fixed size, for [`super::norm_param_grad::NormParamGrad`] to finish. Modulate: a chunk is a sample, and the
/// result [b, 2c] is the gradient of m.
/// Bindings: x, stats, dy, sums [splits, 2, c].
#[derive(Debug, Clone)]
pub struct LayerNormBwdParams {
    pub shape: LayerNormShape,
    /// Add to the sums instead of writing them.
    pub accum: bool,
}

/// Columns and invocations of a workgroup.
const COLUMNS: usize = 16;
const WG: usize = 256;

impl LayerNormBwdParams {
    /// Rows of a chunk: a sample, or else at least 64, and more where there would be over 256 chunks.
    pub fn chunk(&self) -> usize {
        match self.shape.mode {
            NormMode::Modulate { rows_per_sample } => rows_per_sample,
            _ => self.shape.rows.div_ceil(256).max(64),
        }
    }

    pub fn splits(&self) -> usize {
        self.shape.rows.div_ceil(self.chunk())
    }

    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(x), Bind::In(stats), Bind::In(dy), Bind::Out(sums), ..] = &mut io.binds
        else {
            wrong_binds(self.name())
        };
        let c = self.shape.c;
        for split in 0..self.splits() {
            for i in 0..c {
                let (mut with_xhat, mut plain) = (T::zero(), T::zero());
                for row in split * self.chunk()..self.shape.rows.min((split + 1) * self.chunk()) {
                    let xhat = (x[row * c + i] - stats[2 * row]) * stats[2 * row + 1];
                    with_xhat += dy[row * c + i] * xhat;
                    plain += dy[row * c + i];
                }
                for (at, v) in [(2 * split * c + i, with_xhat), ((2 * split + 1) * c + i, plain)] {
                    sums[at] = if self.accum { sums[at] + v } else { v };
                }
            }
        }
    }
}

impl Kernel for LayerNormBwdParams {
    fn name(&self) -> &'static str {
        "layer_norm_bwd_params"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/layer_norm_bwd_params.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![
            flag("VEC4", self.shape.lanes() == 4),
            int("CHANNELS", self.shape.c),
            int("COLUMNS", COLUMNS),
            int("WG", WG),
            flag("ACCUM", self.accum),
        ]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.shape.rows as u32, self.chunk() as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let s = &self.shape;
        vec![s.len(), 2 * s.rows, s.len(), self.splits() * 2 * s.c]
    }
    fn half_ok(&self) -> u32 {
        bindings(&[0, 2])
    }
    fn grid(&self) -> [u32; 3] {
        let columns = self.shape.c / self.shape.lanes();
        [columns.div_ceil(COLUMNS) as u32, self.splits() as u32, 1]
    }
    fn cost(&self) -> Cost {
        let words: usize = self.lens().iter().sum();
        Cost { flops: 5 * self.shape.len() as u64, bytes: 4 * words as u64 }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [Bind::In(x), Bind::In(stats), Bind::In(dy), Bind::Out(sums), ..] = &mut io.binds
        else {
            wrong_binds(self.name())
        };
        let (c, chunk, accum) = (self.shape.c, self.chunk(), self.accum);
        let inputs = x.par_chunks(chunk * c).zip(dy.par_chunks(chunk * c));
        let inputs = inputs.zip(stats.par_chunks(chunk * 2));
        sums.par_chunks_mut(2 * c).zip(inputs).for_each(|(sums, ((x, dy), stats))| {
            vectorised(
                #[inline(always)]
                || {
                    if !accum {
                        sums.fill(0.0);
                    }
                    let (with_xhat, plain) = sums.split_at_mut(c);
                    let rows = x.chunks_exact(c).zip(dy.chunks_exact(c)).zip(stats.chunks_exact(2));
                    for ((x, dy), stat) in rows {
                        let sums = with_xhat.iter_mut().zip(&mut *plain);
                        for ((a, b), (&x, &dy)) in sums.zip(x.iter().zip(dy)) {
                            *a += dy * ((x - stat[0]) * stat[1]);
                            *b += dy;
                        }
                    }
                },
            );
        });
    }
    naive_forms!();
}

fn bwd_inputs(mode: NormMode) -> Vec<Fill> {
    let factor = if mode == NormMode::Plain { vec![] } else { vec![Fill::normal()] };
    let stats = Fill::Uniform(0.5, 1.5);
    [vec![Fill::Normal { mean: 0.0, std: 2.0 }, stats], factor, vec![Fill::normal()]].concat()
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (i, shape) in shapes().into_iter().enumerate() {
        let accum = i % 2 == 1;
        let out = if accum { Fill::normal() } else { Fill::Poison };
        let fills = [bwd_inputs(shape.mode), vec![out]].concat();
        let name = format!("{} accum={accum}", label(&shape));
        cases.push(Case::new(name, LayerNormBwd { shape, accum }, fills));
    }
    cases
}

pub fn params_cases() -> Vec<Case> {
    let mut cases = vec![];
    for shape in shapes().into_iter().filter(|s| s.mode != NormMode::Plain && s.centred) {
        for accum in [false, true] {
            let kernel = LayerNormBwdParams { shape: shape.clone(), accum };
            let out = |fill: Fill| if accum { fill } else { Fill::Poison };
            let ints = || Fill::Ints(-3, 3);
            let name = format!("{} accum={accum}", label(&shape));
            let fills = vec![ints(), Fill::Ints(1, 2), ints(), out(ints())];
            cases.push(Case::new(format!("{name} integers"), kernel.clone(), fills).exact());
            if !accum {
                let fills = [bwd_inputs(NormMode::Plain), vec![Fill::Poison]].concat();
                cases.push(Case::new(name, kernel, fills));
            }
        }
    }
    cases
}
