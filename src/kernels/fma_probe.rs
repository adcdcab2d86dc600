//! The compute half of a roofline: fused multiply-adds at the rate the arithmetic units allow
//! (Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009). It computes nothing of use.

use super::{Bind, Case, Const, Cost, Fill, Io, Kernel, Real, grid_1d, int, wrong_binds};
use crate::naive_forms;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// y = sum over j < chains of a_j, with a_j = x + j taken `rounds` times through a <- a m + c.
/// Bindings: x [n], factors [2] = (m, c), y [n].
///
/// The more chains, the more latency is hidden; the fewer, the more registers are left. Which number
/// is best depends on the device: the roofline is the best of [`FmaProbe::CHAINS`].
#[derive(Debug, Clone)]
pub struct FmaProbe {
    /// A multiple of 64.
    pub n: usize,
    /// One of [`FmaProbe::CHAINS`].
    pub chains: usize,
    /// A multiple of 4.
    pub rounds: usize,
}

impl FmaProbe {
    pub const CHAINS: [usize; 3] = [2, 4, 8];

    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(x), Bind::In(factors), Bind::Out(y), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        for (y, &x) in y.iter_mut().zip(x.iter()) {
            *y = T::zero();
            for chain in 0..self.chains {
                let mut a = x + T::of(chain as f64);
                for _ in 0..self.rounds {
                    a = a * factors[0] + factors[1];
                }
                *y += a;
            }
        }
    }
}

/// `N` chains over two vectors at a time: 2 N sums, m, c and nothing else in registers.
struct Chains<'a, const N: usize> {
    rounds: usize,
    factors: &'a [f32],
    x: &'a [f32],
    y: &'a mut [f32],
}

impl<const N: usize> WithSimd for Chains<'_, N> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (m, c) = (simd.splat_f32s(self.factors[0]), simd.splat_f32s(self.factors[1]));
        let (x, y) = (S::as_simd_f32s(self.x).0, S::as_mut_simd_f32s(self.y).0);
        for (y, x) in y.chunks_exact_mut(2).zip(x.chunks_exact(2)) {
            let mut a = [[c; 2]; N];
            for (chain, a) in a.iter_mut().enumerate() {
                for (a, &x) in a.iter_mut().zip(x) {
                    *a = simd.add_f32s(x, simd.splat_f32s(chain as f32));
                }
            }
            for _ in 0..self.rounds {
                for a in a.as_flattened_mut() {
                    *a = simd.mul_add_e_f32s(*a, m, c);
                }
            }
            for (lane, y) in y.iter_mut().enumerate() {
                *y = simd.splat_f32s(0.0);
                for a in &a {
                    *y = simd.add_f32s(*y, a[lane]);
                }
            }
        }
    }
}

impl Kernel for FmaProbe {
    fn name(&self) -> &'static str {
        "fma_probe"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/fma_probe.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![int("CHAINS", self.chains)]
    }
    fn dims(&self) -> Vec<u32> {
        vec![(self.n / 4) as u32, (self.rounds / 4) as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.n, 2, self.n]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.n / 4, 256)
    }
    fn cost(&self) -> Cost {
        let n = self.n as u64;
        Cost { flops: 2 * n * (self.chains * self.rounds) as u64, bytes: 8 * n }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        // A multiple of twice the widest vector, as n is.
        const CHUNK: usize = 4096;
        let [Bind::In(x), Bind::In(factors), Bind::Out(y), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let (rounds, factors, arch) = (self.rounds, *factors, pulp::Arch::new());
        y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| match self.chains {
            2 => arch.dispatch(Chains::<2> { rounds, factors, x, y }),
            4 => arch.dispatch(Chains::<4> { rounds, factors, x, y }),
            _ => arch.dispatch(Chains::<8> { rounds, factors, x, y }),
        });
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (i, chains) in FmaProbe::CHAINS.into_iter().enumerate() {
        for (n, rounds) in [(64, 4), (64 * 47, 44), (64 * 67, 12)] {
            let kernel = FmaProbe { n, chains, rounds };
            let name = format!("n={n} chains={chains} rounds={rounds}");
            // m = -1: every value stays a small integer.
            let fixed = Fill::F32(vec![-1.0, 2.0 + i as f32]);
            let fills = vec![Fill::Ints(-9, 9), fixed, Fill::Poison];
            cases.push(Case::new(format!("{name} integers"), kernel.clone(), fills).exact());
            let fills = vec![Fill::normal(), Fill::Uniform(0.4, 0.6), Fill::Poison];
            cases.push(Case::new(name, kernel, fills));
        }
    }
    cases
}
