//! The least element of every row. Beside [`super::nearest_code`] it is the second half of the split
//! form, a product whose scores are all stored: what the fused kernel is measured against.

use super::cpu::math::vectorised;
use super::cpu::nearest::FAR;
use super::{
    Bind, Caps, Case, Const, Cost, Fill, Io, Kernel, Real, flag, grid_1d, int, subgroup,
    wrong_binds,
};
use crate::naive_forms;
use rayon::prelude::*;
use std::sync::Arc;

/// idx = argmin_k x[row, k], the lowest index winning ties. NaNs and values of 3e38 or more are passed
/// over; a row of nothing else gives 0. Bindings: x [rows, k], idx u32 [rows].
#[derive(Debug, Clone)]
pub struct ArgminRows {
    pub rows: usize,
    pub k: usize,
}

impl ArgminRows {
    fn lanes(&self) -> usize {
        if self.k.is_multiple_of(4) { 4 } else { 1 }
    }

    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::In(x), Bind::OutU(idx), ..] = &mut io.binds else { wrong_binds(self.name()) };
        for (x, idx) in x.chunks_exact(self.k).zip(idx.iter_mut()) {
            let (mut least, mut index) = (T::of(FAR.into()), 0);
            for (i, &value) in x.iter().enumerate() {
                if value < least {
                    (least, index) = (value, i as u32);
                }
            }
            *idx = index;
        }
    }
}

impl Kernel for ArgminRows {
    fn name(&self) -> &'static str {
        "argmin_rows"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/argmin_rows.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![
            flag("VEC4", self.lanes() == 4),
            int("K", self.k),
            int("WG", (self.k / self.lanes()).next_power_of_two().clamp(32, 256)),
            subgroup::off(),
        ]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.rows as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.rows * self.k, self.rows]
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.rows, 1)
    }
    fn cost(&self) -> Cost {
        let n = (self.rows * self.k) as u64;
        Cost { flops: n, bytes: 4 * (n + self.rows as u64) }
    }
    fn variants(&self, caps: &Caps) -> Vec<Arc<dyn Kernel>> {
        subgroup::offer(self, caps)
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let [Bind::In(x), Bind::OutU(idx), ..] = &mut io.binds else { wrong_binds(self.name()) };
        let least = |a: f32, b: f32| if b < a { b } else { a };
        idx.par_iter_mut().zip(x.par_chunks_exact(self.k)).for_each(|(idx, x)| {
            vectorised(
                #[inline(always)]
                || {
                    let (chunks, rest) = x.as_chunks::<32>();
                    let mut lanes = [FAR; 32];
                    for chunk in chunks {
                        for (lane, &value) in lanes.iter_mut().zip(chunk) {
                            *lane = least(*lane, value);
                        }
                    }
                    let found = lanes.iter().chain(rest).fold(FAR, |a, &b| least(a, b));
                    let first = x.iter().position(|&value| value == found);
                    *idx = if found < FAR { first.unwrap_or(0) as u32 } else { 0 };
                },
            );
        });
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (rows, k) in [(1, 1), (3, 17), (41, 64), (5, 129), (2, 1028), (7, 55)] {
        for (data, fill) in [(" ties", Fill::Ints(-3, 3)), ("", Fill::normal())] {
            let kernel = ArgminRows { rows, k };
            let case =
                Case::new(format!("rows={rows} k={k}{data}"), kernel, vec![fill, Fill::Poison]);
            cases.push(case.exact());
        }
    }
    // A row in which only one element counts, and one in which none does.
    for k in [47, 1028] {
        let value = |i: usize| match i {
            i if i == k / 2 => -1.0,
            i if i % 3 == 0 => f32::NAN,
            i if i % 3 == 1 => f32::INFINITY,
            _ => 3.0e38,
        };
        let fills = vec![Fill::F32((0..2 * k).map(value).collect()), Fill::Poison];
        cases.push(
            Case::new(format!("rows=2 k={k} stray"), ArgminRows { rows: 2, k }, fills).exact(),
        );
    }
    cases
}
