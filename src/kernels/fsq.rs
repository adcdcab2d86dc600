//! Finite scalar quantisation (Mentzer et al. 2023, arXiv 2309.15505): every channel is bounded and
//! rounded to one of a few levels; the digits of a row are its index.

use super::{Bind, Case, Const, Cost, Fill, Io, Kernel, Real, flag, grid_1d, int, wrong_binds};
use crate::naive_forms;

/// Levels a channel may have. The bounding function overshoots the outermost level by a thousandth
/// of the range, (L - 1) / 2000, which must stay below the half step that rounds to the next one.
pub const LEVELS: std::ops::RangeInclusive<usize> = 2..=1000;

/// What bounds a channel of L levels: tanh(z + shift) * half - offset, rounded, is the digit less
/// L/2 (integer division). Two levels are the sign: there `half` and `shift` only make the gradient.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    half: f64,
    offset: f64,
    shift: f64,
}

impl Bounds {
    fn of(levels: usize) -> Self {
        if levels == 2 {
            return Bounds { half: 1.0, offset: 0.0, shift: 0.0 };
        }
        let half = (levels - 1) as f64 * 1.001 / 2.0;
        let offset = if levels.is_multiple_of(2) { 0.5 } else { 0.0 };
        Bounds { half, offset, shift: (offset / half).atanh() }
    }
}

/// The binding `channels` of the kernels: half, offset, shift and the number of levels, a channel.
pub fn channel_table(levels: &[usize]) -> Vec<f32> {
    let row = |&l: &usize| {
        let b = Bounds::of(l);
        [b.half, b.offset, b.shift, l as f64].map(|x| x as f32)
    };
    levels.iter().flat_map(row).collect()
}

/// Bindings: z [rows, d], channels [d, 4] ([`channel_table`]), y [rows, d], idx u32 [rows];
/// backward: z, channels, dy [rows, d], dz [rows, d].
///
/// y = (digit - L/2) / (L/2) in [-1, 1] (two levels: -1 and 1), idx = sum of digit_c prod_{j<c} L_j,
/// whose product must fit u32. Rounding is half to even. A NaN gives some digit in range. Backward is
/// straight through the rounding: dz = dy half (1 - tanh^2(z + shift)) / (L/2).
#[derive(Debug, Clone)]
pub struct Fsq {
    pub rows: usize,
    pub levels: Vec<usize>,
    pub backward: bool,
    /// Backward only: add to dz instead of writing it.
    pub accum: bool,
}

/// The value of a digit.
fn code<T: Real>(digit: usize, levels: usize) -> T {
    if levels == 2 {
        return T::of(2.0 * digit as f64 - 1.0);
    }
    let half = (levels / 2) as f64;
    T::of(digit as f64 - half) / T::of(half)
}

impl Fsq {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let d = self.levels.len();
        match &mut io.binds {
            [Bind::In(z), Bind::In(_), Bind::Out(y), Bind::OutU(idx), ..] => {
                for row in 0..self.rows {
                    let (mut index, mut basis) = (0u32, 1u32);
                    for (c, &levels) in self.levels.iter().enumerate() {
                        let (z, b) = (z[row * d + c], Bounds::of(levels));
                        let digit = if levels == 2 {
                            usize::from(z.value() >= 0.0)
                        } else {
                            let bounded =
                                (z + T::of(b.shift)).tanh() * T::of(b.half) - T::of(b.offset);
                            let rounded = bounded.value().round_ties_even();
                            (rounded + (levels / 2) as f64).clamp(0.0, (levels - 1) as f64) as usize
                        };
                        y[row * d + c] = code(digit, levels);
                        index = index.wrapping_add(basis.wrapping_mul(digit as u32));
                        basis = basis.wrapping_mul(levels as u32);
                    }
                    idx[row] = index;
                }
            }
            [Bind::In(z), Bind::In(_), Bind::In(dy), Bind::Out(dz), ..] => {
                for i in 0..self.rows * d {
                    let levels = self.levels[i % d];
                    let b = Bounds::of(levels);
                    // 1 - tanh^2 u = 4 e / (1 + e)^2 with e = exp(-2 |u|): no cancellation.
                    let e = (-(T::of(2.0) * (z[i] + T::of(b.shift)).abs())).exp();
                    let square = (T::one() + e) * (T::one() + e);
                    let slope = T::of(b.half) * T::of(4.0) * e / square;
                    let g = dy[i] * slope / T::of((levels / 2) as f64);
                    dz[i] = if self.accum { dz[i] + g } else { g };
                }
            }
            _ => wrong_binds(self.name()),
        }
    }
}

impl Kernel for Fsq {
    fn name(&self) -> &'static str {
        "fsq"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/fsq.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        let mut consts = vec![int("D", self.levels.len()), flag("BACKWARD", self.backward)];
        if self.backward {
            consts.push(flag("ACCUM", self.accum));
        }
        consts
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.rows as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let d = self.levels.len();
        let n = self.rows * d;
        if self.backward { vec![n, 4 * d, n, n] } else { vec![n, 4 * d, n, self.rows] }
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(if self.backward { self.rows * self.levels.len() } else { self.rows }, 64)
    }
    fn cost(&self) -> Cost {
        let n = (self.rows * self.levels.len()) as u64;
        let words = if self.backward { n * (3 + u64::from(self.accum)) } else { 2 * n };
        Cost {
            flops: 20 * n,
            bytes: 4 * words + if self.backward { 0 } else { 4 * self.rows as u64 },
        }
    }
    naive_forms!();
}

/// The codes of indices: bindings idx u32 [rows], channels [d, 4], y [rows, d]. An index beyond the
/// product of the levels counts modulo it.
#[derive(Debug, Clone)]
pub struct FsqCodes {
    pub rows: usize,
    pub levels: Vec<usize>,
}

impl FsqCodes {
    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::InU(idx), Bind::In(_), Bind::Out(y), ..] = &mut io.binds else {
            wrong_binds(self.name())
        };
        for (row, &index) in idx.iter().enumerate() {
            let mut rest = index as usize;
            for (c, &levels) in self.levels.iter().enumerate() {
                y[row * self.levels.len() + c] = code(rest % levels, levels);
                rest /= levels;
            }
        }
    }
}

impl Kernel for FsqCodes {
    fn name(&self) -> &'static str {
        "fsq_codes"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/fsq_codes.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![int("D", self.levels.len())]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.rows as u32]
    }
    fn lens(&self) -> Vec<usize> {
        let d = self.levels.len();
        vec![self.rows, 4 * d, self.rows * d]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.rows * self.levels.len(), 64)
    }
    fn cost(&self) -> Cost {
        let n = (self.rows * self.levels.len()) as u64;
        Cost { flops: 4 * n, bytes: 4 * (n + self.rows as u64) }
    }
    naive_forms!();
}

const LISTS: [&[usize]; 7] = [
    &[2],
    &[3],
    &[8, 6, 5],
    &[4, 2, 1000, 7],
    &[7, 5, 5, 5, 5],
    &[8, 8, 8, 5, 5, 5],
    &[2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2],
];

/// Random inputs stay clear of the boundaries between digits, where forms may honestly differ: the
/// test below sees to it.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (levels, rows) in LISTS.into_iter().zip([1, 63, 64, 65, 41, 47, 55]) {
        let (table, wide) = (channel_table(levels), Fill::Normal { mean: 0.0, std: 1.5 });
        let forward = Fsq { rows, levels: levels.to_vec(), backward: false, accum: false };
        let fills = vec![wide.clone(), Fill::F32(table.clone()), Fill::Poison, Fill::Poison];
        cases.push(Case::new(format!("{rows} x {levels:?}"), forward.clone(), fills));
        for accum in [false, true] {
            let out = if accum { Fill::normal() } else { Fill::Poison };
            cases.push(Case::new(
                format!("{rows} x {levels:?} backward accum={accum}"),
                Fsq { backward: true, accum, ..forward.clone() },
                vec![wide.clone(), Fill::F32(table.clone()), Fill::normal(), out],
            ));
        }
    }
    // Exact zeros, and sizes at which a tanh of exponentials overflows.
    let z = vec![0.0, -0.0, 1e30, -1e30, 50.0, -50.0, 1e-30, -1e-30, 100.0, -100.0, 9.0, -9.0];
    let levels = vec![2, 5, 8];
    let fills = vec![Fill::F32(z), Fill::F32(channel_table(&levels)), Fill::Poison, Fill::Poison];
    let forward = Fsq { rows: 4, levels, backward: false, accum: false };
    cases.push(Case::new("zeros and huge", forward.clone(), fills.clone()));
    let backward = Fsq { backward: true, ..forward };
    // Beyond a size of about 1e9 the first-order bound of exp has no end.
    let z = [0.0, -0.0, 50.0, -50.0, 1e-30, -1e-30, 300.0, -300.0, 100.0, -100.0, 9.0, -9.0];
    let fills = vec![Fill::F32(z.to_vec()), fills[1].clone(), Fill::normal(), Fill::Poison];
    cases.push(Case::new("zeros and large, backward", backward, fills));
    cases
}

pub fn codes_cases() -> Vec<Case> {
    let cases = LISTS.into_iter().map(|levels| {
        let kernel = FsqCodes { rows: 61, levels: levels.to_vec() };
        let count = levels.iter().product::<usize>() as u32;
        let mut idx = Fill::Index(count).bits(61, 3);
        (idx[0], idx[1]) = (count - 1, u32::MAX);
        let fills = vec![Fill::U32(idx), Fill::F32(channel_table(levels)), Fill::Poison];
        Case::new(format!("{levels:?}"), kernel, fills)
    });
    cases.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Bounded;

    /// The nearest that any input of a case comes to a boundary, against the derived error of the
    /// bounded value there.
    #[test]
    fn cases_are_clear_of_boundaries() {
        let mut seen = 0;
        for (levels, case) in LISTS.iter().zip(cases().iter().step_by(3)) {
            for (i, word) in case.fills[0].bits(case.kernel.lens()[0], 1).into_iter().enumerate() {
                let levels = levels[i % levels.len()];
                if levels == 2 {
                    continue;
                }
                let b = Bounds::of(levels);
                let z = Bounded::exact(f32::from_bits(word)) + Bounded::of(b.shift);
                let bounded = z.tanh() * Bounded::of(b.half) - Bounded::of(b.offset);
                let distance = (bounded.value() - bounded.value().floor() - 0.5).abs();
                assert!(distance > bounded.tolerance(), "{levels}: {distance:e}");
                seen += 1;
            }
        }
        assert!(seen > 600, "{seen}");
    }

    /// The outermost digits are reached and never passed, for every permitted number of levels.
    #[test]
    fn bounds_round_to_the_outermost_levels() {
        for levels in LEVELS {
            let b = Bounds::of(levels);
            let half = (levels / 2) as f64;
            let reach = |t: f64| (t * b.half - b.offset).round_ties_even();
            if levels > 2 {
                assert_eq!(reach(-1.0), -half, "{levels}");
                assert_eq!(reach(1.0), (levels - 1) as f64 - half, "{levels}");
            }
        }
    }
}
