//! Root mean square differences of the columns of two images, and their gradient. On spectrograms
//! with one column a time frame, in dB, their mean is the log-spectral distance.

use super::{Bind, Case, Const, Cost, Fill, Io, Kernel, Real, flag, float, grid_1d, wrong_binds};
use crate::naive_forms;
use rayon::prelude::*;

/// rms[n, w, c] = sqrt(scale^2 mean_h (a - b)^2 + eps). Bindings: a, b [n, h, w, c], rms [n, w, c].
#[derive(Debug, Clone)]
pub struct FrameRms {
    pub n: usize,
    pub h: usize,
    /// Width times channels.
    pub row: usize,
    /// Finite.
    pub scale: f32,
    /// Above 0, in units of (scale (a - b))^2.
    pub eps: f32,
}

impl FrameRms {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(a), Bind::In(b), Bind::Out(rms), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        for sample in 0..self.n {
            for column in 0..self.row {
                let mut sum = T::zero();
                for y in 0..self.h {
                    let i = (sample * self.h + y) * self.row + column;
                    let d = T::of(self.scale.into()) * (a[i] - b[i]);
                    sum += d * d;
                }
                let mean = sum / T::of(self.h as f64);
                rms[sample * self.row + column] = (mean + T::of(self.eps.into())).sqrt();
            }
        }
    }
}

impl Kernel for FrameRms {
    fn name(&self) -> &'static str {
        "frame_rms"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/frame_rms.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![float("EPS", self.eps)]
    }
    fn dims(&self) -> Vec<u32> {
        let columns = self.n * self.row;
        vec![columns as u32, self.h as u32, self.row as u32, self.scale.to_bits()]
    }
    fn lens(&self) -> Vec<usize> {
        let n = self.n * self.h * self.row;
        vec![n, n, self.n * self.row]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.n * self.row, 256)
    }
    fn cost(&self) -> Cost {
        let [n, _, columns] = self.lens()[..] else { return Cost::default() };
        Cost { flops: 4 * n as u64, bytes: 4 * (2 * n + columns) as u64 }
    }
    fn rounds(&self) -> usize {
        self.h
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [Bind::In(a), Bind::In(b), Bind::Out(rms), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let image = self.h * self.row;
        let images = a.par_chunks(image).zip(b.par_chunks(image));
        rms.par_chunks_mut(self.row).zip(images).for_each(|(rms, (a, b))| {
            rms.fill(0.0);
            for (a, b) in a.chunks(self.row).zip(b.chunks(self.row)) {
                for (sum, (&a, &b)) in rms.iter_mut().zip(a.iter().zip(b)) {
                    let d = self.scale * (a - b);
                    *sum += d * d;
                }
            }
            rms.iter_mut().for_each(|sum| *sum = (*sum / self.h as f32 + self.eps).sqrt());
        });
    }
    naive_forms!();
}

/// da (+)= factor dloss scale^2 (a - b) / (h rms), the gradient of factor sum rms. Bindings: a,
/// b [n, h, w, c], rms [n, w, c] as [`FrameRms`] gives it, dloss [1], da [n, h, w, c].
#[derive(Debug, Clone)]
pub struct FrameRmsGrad {
    pub n: usize,
    pub h: usize,
    /// Width times channels.
    pub row: usize,
    /// Finite.
    pub scale: f32,
    /// Finite.
    pub factor: f32,
    /// Add to da instead of writing it.
    pub accum: bool,
}

impl FrameRmsGrad {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(a), Bind::In(b), Bind::In(rms), Bind::In(dloss), Bind::Out(da), ..] =
            &mut io.binds
        else {
            wrong_binds(self.name())
        };
        let scale = T::of(self.scale.into());
        for sample in 0..self.n {
            for y in 0..self.h {
                for column in 0..self.row {
                    let i = (sample * self.h + y) * self.row + column;
                    let below = T::of(self.h as f64) * rms[sample * self.row + column];
                    let slope = scale * scale * (a[i] - b[i]) / below;
                    let g = T::of(self.factor.into()) * dloss[0] * slope;
                    da[i] = if self.accum { da[i] + g } else { g };
                }
            }
        }
    }
}

impl Kernel for FrameRmsGrad {
    fn name(&self) -> &'static str {
        "frame_rms_grad"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/frame_rms_grad.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![float("FACTOR", self.factor), flag("ACCUM", self.accum)]
    }
    fn dims(&self) -> Vec<u32> {
        let n = self.n * self.h * self.row;
        vec![n as u32, self.h as u32, self.row as u32, self.scale.to_bits()]
    }
    fn lens(&self) -> Vec<usize> {
        let n = self.n * self.h * self.row;
        vec![n, n, self.n * self.row, 1, n]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.n * self.h * self.row, 256)
    }
    fn cost(&self) -> Cost {
        let (n, accum) = (self.lens()[0] as u64, u64::from(self.accum));
        Cost { flops: (6 + accum) * n, bytes: (3 + accum) * 4 * n }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [Bind::In(a), Bind::In(b), Bind::In(rms), Bind::In(dloss), Bind::Out(da), ..] =
            &mut io.binds
        else {
            wrong_binds(self.name())
        };
        let (row, scale) = (self.row, self.factor * dloss[0] * self.scale * self.scale);
        da.par_chunks_mut(row).enumerate().for_each(|(line, da)| {
            let (a, b) = (&a[line * row..][..row], &b[line * row..][..row]);
            let rms = &rms[line / self.h * row..][..row];
            for (((da, &a), &b), &rms) in da.iter_mut().zip(a).zip(b).zip(rms) {
                let g = scale * (a - b) / (self.h as f32 * rms);
                *da = if self.accum { *da + g } else { g };
            }
        });
    }
    naive_forms!();
}

const SHAPES: [(usize, usize, usize); 5] =
    [(1, 1, 1), (2, 41, 3), (1, 7, 257), (3, 47, 55), (2, 256, 4)];

pub fn cases() -> Vec<Case> {
    let case = |(n, h, row)| {
        let kernel = FrameRms { n, h, row, scale: 20.0, eps: 1e-4 };
        let fills = vec![Fill::normal(), Fill::normal(), Fill::Poison];
        Case::new(format!("{n} x {h} x {row}"), kernel, fills)
    };
    let mut cases: Vec<Case> = SHAPES.into_iter().map(case).collect();
    // Equal columns are eps apart.
    let kernel = FrameRms { n: 1, h: 5, row: 8, scale: 20.0, eps: 0.25 };
    let fills = vec![Fill::F32(vec![0.75; 40]), Fill::F32(vec![0.75; 40]), Fill::Poison];
    cases.push(Case::new("equal images", kernel, fills));
    cases
}

pub fn grad_cases() -> Vec<Case> {
    let mut cases = vec![];
    for (n, h, row) in SHAPES {
        for accum in [false, true] {
            let kernel = FrameRmsGrad { n, h, row, scale: 20.0, factor: 0.37, accum };
            let out = if accum { Fill::normal() } else { Fill::Poison };
            let (x, rms) = (Fill::normal(), Fill::Uniform(0.01, 9.0));
            let fills = vec![x.clone(), x.clone(), rms, x, out];
            cases.push(Case::new(format!("{n} x {h} x {row} accum={accum}"), kernel, fills));
        }
    }
    cases
}
