//! Binary codes: the sign of every channel, and the number that the signs of a row write (lookup-free
//! quantisation, Yu et al. 2023, arXiv 2310.05737).

use super::{Bind, Case, Const, Cost, Fill, Io, Kernel, Real, float, grid_1d, int, wrong_binds};
use crate::naive_forms;

/// Bindings: z [rows, d], y [rows, d] = scale sign(z) with sign(0) = 1, idx u32 [rows]: the bit of
/// channel 0 is the highest, as in vector-quantize-pytorch. At most 32 channels.
#[derive(Debug, Clone)]
pub struct SignCode {
    pub rows: usize,
    pub d: usize,
    /// Finite.
    pub scale: f32,
}

impl SignCode {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(z), Bind::Out(y), Bind::OutU(idx), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        let scale = T::of(self.scale.into());
        for row in 0..self.rows {
            idx[row] = 0;
            for c in 0..self.d {
                let positive = z[row * self.d + c].value() >= 0.0;
                y[row * self.d + c] = if positive { scale } else { -scale };
                idx[row] = 2 * idx[row] + u32::from(positive);
            }
        }
    }
}

impl Kernel for SignCode {
    fn name(&self) -> &'static str {
        "sign_code"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/sign_code.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![int("D", self.d), float("SCALE", self.scale)]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.rows as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let n = self.rows * self.d;
        vec![n, n, self.rows]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.rows, 64)
    }
    fn cost(&self) -> Cost {
        let n = (self.rows * self.d) as u64;
        Cost { flops: n, bytes: 4 * (2 * n + self.rows as u64) }
    }
    naive_forms!();
}

/// The codes of indices: bindings idx u32 [rows], y [rows, d]. Bits above the d lowest are ignored.
#[derive(Debug, Clone)]
pub struct SignCodes {
    pub rows: usize,
    pub d: usize,
    /// Finite.
    pub scale: f32,
}

impl SignCodes {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::InU(idx), Bind::Out(y), ..] = &mut io.binds else { wrong_binds(self.name()) };
        let scale = T::of(self.scale.into());
        for row in 0..self.rows {
            for c in 0..self.d {
                let bit = idx[row] >> (self.d - 1 - c) & 1;
                y[row * self.d + c] = if bit == 1 { scale } else { -scale };
            }
        }
    }
}

impl Kernel for SignCodes {
    fn name(&self) -> &'static str {
        "sign_codes"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/sign_codes.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![int("D", self.d), float("SCALE", self.scale)]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.rows as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.rows, self.rows * self.d]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.rows * self.d, 64)
    }
    fn cost(&self) -> Cost {
        let n = (self.rows * self.d) as u64;
        Cost { flops: 0, bytes: 4 * (n + self.rows as u64) }
    }
    naive_forms!();
}

const SHAPES: [(usize, usize, f32); 5] =
    [(1, 1, 1.0), (41, 6, 1.0), (64, 18, 0.235_702_26), (65, 31, 0.5), (63, 32, -2.0)];

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (rows, d, scale) in SHAPES {
        // Many exact zeros.
        for z in [Fill::Ints(-2, 2), Fill::normal()] {
            let fills = vec![z, Fill::Poison, Fill::Poison];
            let name = format!("{rows} x {d} {:?}", fills[0]);
            cases.push(Case::new(name, SignCode { rows, d, scale }, fills).exact());
        }
    }
    let fills = vec![
        Fill::F32(vec![0.0, -0.0, 1.2e-38, -1.2e-38, f32::MAX, f32::MIN]),
        Fill::Poison,
        Fill::Poison,
    ];
    cases.push(Case::new("zeros", SignCode { rows: 2, d: 3, scale: 1.0 }, fills).exact());
    cases
}

pub fn codes_cases() -> Vec<Case> {
    let case = |(rows, d, scale)| {
        let fills = vec![Fill::Index(u32::MAX), Fill::Poison];
        Case::new(format!("{rows} x {d}"), SignCodes { rows, d, scale }, fills).exact()
    };
    SHAPES.into_iter().map(case).collect()
}
