//! A draw from a diagonal Gaussian, by reparametrisation (Kingma and Welling 2013).

use super::{Bind, Case, Const, Cost, Fill, Io, Kernel, Real, flag, grid_1d, int, wrong_binds};
use crate::naive_forms;

/// Log-variances are clamped to this range, as in diffusers.
pub const LOGVAR: (f32, f32) = (-30.0, 20.0);

/// The clamped log-variance, and whether it lets a gradient pass.
pub(super) fn clamped<T: Real>(logvar: T) -> (T, bool) {
    let (low, high) = LOGVAR;
    if logvar.value() < low.into() {
        (T::of(low.into()), false)
    } else if logvar.value() > high.into() {
        (T::of(high.into()), false)
    } else {
        (logvar, true)
    }
}

/// Bindings: moments [rows, 2c] (mean | logvar), eps [rows, c], z [rows, c] = mean + exp(logvar / 2)
/// eps; backward: moments, eps, dz [rows, c], dmoments [rows, 2c]. At its ends the clamp still passes
/// the gradient, beyond them it does not.
#[derive(Debug, Clone)]
pub struct SampleGaussian {
    pub rows: usize,
    pub c: usize,
    pub backward: bool,
    /// Backward only: add to dmoments instead of writing it.
    pub accum: bool,
}

impl SampleGaussian {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let c = self.c;
        let half = T::of(0.5);
        match &mut io.binds {
            [Bind::In(moments), Bind::In(eps), Bind::Out(z), ..] => {
                for (i, z) in z.iter_mut().enumerate() {
                    let mean = moments[i / c * 2 * c + i % c];
                    let (logvar, _) = clamped(moments[i / c * 2 * c + c + i % c]);
                    *z = mean + (half * logvar).exp() * eps[i];
                }
            }
            [Bind::In(moments), Bind::In(eps), Bind::In(dz), Bind::Out(dmoments), ..] => {
                for (i, &dz) in dz.iter().enumerate() {
                    let at = i / c * 2 * c + i % c;
                    let (logvar, passes) = clamped(moments[at + c]);
                    let g = half * (half * logvar).exp() * eps[i] * dz;
                    let g = if passes { g } else { T::zero() };
                    dmoments[at] = if self.accum { dmoments[at] + dz } else { dz };
                    dmoments[at + c] = if self.accum { dmoments[at + c] + g } else { g };
                }
            }
            _ => wrong_binds(self.name()),
        }
    }
}

impl Kernel for SampleGaussian {
    fn name(&self) -> &'static str {
        "sample_gaussian"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/sample_gaussian.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        let mut consts = vec![int("CHANNELS", self.c), flag("BACKWARD", self.backward)];
        if self.backward {
            consts.push(flag("ACCUM", self.accum));
        }
        consts
    }
    fn dims(&self) -> Vec<u32> {
        vec![(self.rows * self.c) as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let n = self.rows * self.c;
        if self.backward { vec![2 * n, n, n, 2 * n] } else { vec![2 * n, n, n] }
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.rows * self.c, 256)
    }
    fn cost(&self) -> Cost {
        let words: usize = self.lens().iter().sum();
        let again = if self.accum { 2 * self.rows * self.c } else { 0 };
        let n = (self.rows * self.c) as u64;
        Cost { flops: 12 * n, bytes: 4 * (words + again) as u64 }
    }
    naive_forms!();
}

/// Moments at, within and beyond the clamp, `n` of them.
pub(super) fn wide_moments(n: usize) -> Vec<f32> {
    let mut moments: Vec<f32> = Fill::normal().bits(n, 5).into_iter().map(f32::from_bits).collect();
    for (x, edge) in moments
        .iter_mut()
        .skip(1)
        .step_by(3)
        .zip([-30.0, 20.0, -31.0, 20.5, 0.0, -1e4, 1e4, 12.0, -8.0].into_iter().cycle())
    {
        *x = edge;
    }
    moments
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (rows, c) in [(1, 1), (41, 3), (64, 4), (257, 5)] {
        let forward = SampleGaussian { rows, c, backward: false, accum: false };
        let moments = Fill::F32(wide_moments(2 * rows * c));
        let fills = vec![moments.clone(), Fill::normal(), Fill::Poison];
        cases.push(Case::new(format!("{rows} x {c}"), forward.clone(), fills));
        for accum in [false, true] {
            let out = if accum { Fill::normal() } else { Fill::Poison };
            cases.push(Case::new(
                format!("{rows} x {c} backward accum={accum}"),
                SampleGaussian { backward: true, accum, ..forward.clone() },
                vec![moments.clone(), Fill::normal(), Fill::normal(), out],
            ));
        }
    }
    cases
}
