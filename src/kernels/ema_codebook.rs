//! The codebook as an exponential moving average of its latents (van den Oord et al. 2017,
//! appendix A.1), in two kernels: the total over all codes must be complete before a code is
//! written.
//!
//! N <- g N + (1 - g) n,  m <- g m + (1 - g) s,  e = m / ((N + eps) / (Nt + K eps) Nt),  Nt = sum N,
//!
//! with n and s the counts and sums of [`super::code_sums::CodeSums`] over the whole step (all
//! lanes). Nothing changes unless ctl[1] > 0 ([`super::grad_ctl::GradCtl`]).

use super::{Bind, Case, Const, Cost, Fill, Io, Kernel, Real, float, grid_1d, int, wrong_binds};
use crate::naive_forms;
use rayon::prelude::*;

/// N <- g N + (1 - g) n and its total. Bindings: counts [k], ctl [4], ema_n [k] (read and written),
/// total [1].
#[derive(Debug, Clone)]
pub struct EmaCounts {
    pub k: usize,
    pub decay: f32,
}

/// m and e. Bindings: sums [k, d], ctl [4], ema_n [k] and total [1] (both as [`EmaCounts`] leaves
/// them), ema_m [k, d] and codebook [k, d] (read and written).
#[derive(Debug, Clone)]
pub struct EmaCodebook {
    pub k: usize,
    pub d: usize,
    pub decay: f32,
    /// Laplace smoothing of the counts: 1e-5.
    pub eps: f32,
}

/// g old + (1 - g) new.
fn blend<T: Real>(decay: f32, old: T, new: T) -> T {
    let g = T::of(decay.into());
    g * old + (T::one() - g) * new
}

impl EmaCounts {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(counts), Bind::In(ctl), Bind::Out(ema_n), Bind::Out(total), ..] =
            &mut io.binds
        else {
            wrong_binds(self.name())
        };
        total[0] = T::zero();
        for (n, &count) in ema_n.iter_mut().zip(counts.iter()) {
            if ctl[1] > T::zero() {
                *n = blend(self.decay, *n, count);
            }
            total[0] += *n;
        }
    }
}

impl Kernel for EmaCounts {
    fn name(&self) -> &'static str {
        "ema_counts"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/ema_counts.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![float("DECAY", self.decay)]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.k as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.k, 4, self.k, 1]
    }
    fn grid(&self) -> [u32; 3] {
        [1, 1, 1]
    }
    fn cost(&self) -> Cost {
        Cost { flops: 4 * self.k as u64, bytes: 12 * self.k as u64 }
    }
    naive_forms!();
}

impl EmaCodebook {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [
            Bind::In(sums),
            Bind::In(ctl),
            Bind::In(ema_n),
            Bind::In(total),
            Bind::Out(ema_m),
            Bind::Out(codebook),
            ..,
        ] = &mut io.binds
        else {
            wrong_binds(self.name())
        };
        let apply = ctl[1] > T::zero();
        if !apply {
            return;
        }
        let (eps, total) = (T::of(self.eps.into()), total[0]);
        for code in 0..self.k {
            let smoothed = (ema_n[code] + eps) / (total + T::of(self.k as f64) * eps) * total;
            for i in code * self.d..(code + 1) * self.d {
                ema_m[i] = blend(self.decay, ema_m[i], sums[i]);
                codebook[i] = ema_m[i] / smoothed;
            }
        }
    }
}

impl Kernel for EmaCodebook {
    fn name(&self) -> &'static str {
        "ema_codebook"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/ema_codebook.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![int("K", self.k), int("D", self.d), float("DECAY", self.decay), float("EPS", self.eps)]
    }
    fn lens(&self) -> Vec<usize> {
        let table = self.k * self.d;
        vec![table, 4, self.k, 1, table, table]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.k * self.d, 256)
    }
    fn cost(&self) -> Cost {
        let table = (self.k * self.d) as u64;
        Cost { flops: 8 * table, bytes: 16 * table + 4 * self.k as u64 }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        const CODES: usize = 64;
        let [
            Bind::In(sums),
            Bind::In(ctl),
            Bind::In(ema_n),
            Bind::In(total),
            Bind::Out(ema_m),
            Bind::Out(codebook),
            ..,
        ] = &mut io.binds
        else {
            wrong_binds(self.name())
        };
        let apply = ctl[1] > 0.0;
        if !apply {
            return;
        }
        let (d, total) = (self.d, total[0]);
        let tables = ema_m.par_chunks_mut(CODES * d).zip(codebook.par_chunks_mut(CODES * d));
        let inputs = sums.par_chunks(CODES * d).zip(ema_n.par_chunks(CODES));
        tables.zip(inputs).for_each(|((m, e), (sums, ema_n))| {
            let codes = m.chunks_mut(d).zip(e.chunks_mut(d)).zip(sums.chunks(d)).zip(ema_n);
            for (((m, e), sum), &n) in codes {
                let smoothed = (n + self.eps) / (total + self.k as f32 * self.eps) * total;
                for ((m, e), &sum) in m.iter_mut().zip(e).zip(sum) {
                    *m = blend(self.decay, *m, sum);
                    *e = *m / smoothed;
                }
            }
        });
    }
    naive_forms!();
}

fn ctl(apply: f32) -> Fill {
    Fill::F32(vec![1.0, apply, 1.0, 0.0])
}

pub fn counts_cases() -> Vec<Case> {
    let mut cases = vec![];
    for (k, apply) in [(1, 1.0), (47, 1.0), (256, 0.0), (1000, 1.0)] {
        let fills =
            vec![Fill::Uniform(0.0, 9.0), ctl(apply), Fill::Uniform(0.0, 9.0), Fill::Poison];
        cases.push(Case::new(format!("k={k} apply={apply}"), EmaCounts { k, decay: 0.99 }, fills));
    }
    cases
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    let shapes = [(1, 1, 1.0), (47, 3, 1.0), (256, 8, 0.0), (55, 64, 1.0), (300, 41, 1.0)];
    for (k, d, apply) in shapes {
        let kernel = EmaCodebook { k, d, decay: 0.99, eps: 1e-5 };
        let total = Fill::F32(vec![5.0 * k as f32]);
        let (sums, n) = (Fill::normal(), Fill::Uniform(0.0, 9.0));
        let fills = vec![sums, ctl(apply), n, total, Fill::normal(), Fill::normal()];
        cases.push(Case::new(format!("k={k} d={d} apply={apply}"), kernel, fills));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::StepScalars;

    /// By hand, with an eps large enough to see: the recorded PyTorch values cannot tell it from
    /// rounding.
    #[test]
    fn smoothing_is_laplace() {
        let run = |kernel: &dyn Kernel, binds: [Bind<'_, f64>; 8]| {
            kernel.naive64(&mut Io { binds, step: StepScalars::default() });
        };
        let none = || [const { Bind::None }; 8];
        let (ctl, mut n, mut total) = ([0.0, 1.0, 0.0, 0.0], [0.0, 6.0], [0.0]);
        let mut binds = none();
        binds[0] = Bind::In(&[0.0, 2.0]);
        binds[1] = Bind::In(&ctl);
        binds[2] = Bind::Out(&mut n);
        binds[3] = Bind::Out(&mut total);
        run(&EmaCounts { k: 2, decay: 0.5 }, binds);
        assert_eq!((n, total), ([0.0, 4.0], [4.0]));

        let (mut m, mut e) = ([2.0, 8.0], [0.0, 0.0]);
        let mut binds = none();
        binds[0] = Bind::In(&[0.0, 10.0]);
        binds[1] = Bind::In(&ctl);
        binds[2] = Bind::In(&n);
        binds[3] = Bind::In(&total);
        binds[4] = Bind::Out(&mut m);
        binds[5] = Bind::Out(&mut e);
        run(&EmaCodebook { k: 2, d: 1, decay: 0.5, eps: 0.5 }, binds);
        assert_eq!(m, [1.0, 9.0]);
        // (0 + .5) / (4 + 2 x .5) x 4 = .4 and (4 + .5) / 5 x 4 = 3.6.
        assert!((e[0] - 1.0 / 0.4).abs() < 1e-15 && (e[1] - 9.0 / 3.6).abs() < 1e-15, "{e:?}");
    }
}
