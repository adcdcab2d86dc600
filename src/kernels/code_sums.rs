//! Count and sum of the rows that share an index: the statistics of a codebook update, and the
//! gradient of an embedding.

use super::{Bind, Case, Const, Cost, Fill, Io, Kernel, Real, flag, grid_1d, int, wrong_binds};
use crate::naive_forms;
use rayon::prelude::*;
use std::cell::Cell;

/// counts[k] (+)= #{i : idx[i] = k}, sums[k] (+)= sum of z[i] over those i. Bindings: idx u32 [n],
/// z [n, d], counts f32 [k], sums [k, d]. Indices past k take no part.
///
/// The owner computes: whoever owns (k, channel) adds its rows in the order of i, so the result is
/// exact in its order and repeatable, without atomics on floats.
#[derive(Debug, Clone)]
pub struct CodeSums {
    pub n: usize,
    pub k: usize,
    pub d: usize,
    /// Add to counts and sums instead of writing them.
    pub accum: bool,
}

impl CodeSums {
    /// Channels x codes on the invocations of a workgroup, and codes that one invocation owns. More
    /// than one only where workgroups abound: every workgroup scans all indices.
    fn tile(&self) -> (usize, usize, usize) {
        let channels = self.d.min(256);
        let codes = 256 / channels;
        (channels, codes, (self.k / (256 * codes)).clamp(1, 8))
    }

    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let [Bind::InU(idx), Bind::In(z), Bind::Out(counts), Bind::Out(sums), ..] = &mut io.binds
        else {
            wrong_binds(self.name())
        };
        if !self.accum {
            counts.fill(T::zero());
            sums.fill(T::zero());
        }
        for (i, &code) in idx.iter().enumerate() {
            let code = code as usize;
            if code < self.k {
                counts[code] += T::one();
                for j in 0..self.d {
                    sums[code * self.d + j] += z[i * self.d + j];
                }
            }
        }
    }
}

/// Rows grouped by code, each group in ascending order: a stable counting sort.
#[derive(Debug, Default)]
struct Grouped {
    /// Code c owns `order[ends[c - 1]..ends[c]]`.
    ends: Vec<u32>,
    order: Vec<u32>,
}

impl Grouped {
    fn sort(&mut self, idx: &[u32], k: usize) {
        self.ends.clear();
        self.ends.resize(k, 0);
        for &code in idx {
            if let Some(count) = self.ends.get_mut(code as usize) {
                *count += 1;
            }
        }
        let mut start = 0;
        for end in &mut self.ends {
            (*end, start) = (start, start + *end);
        }
        self.order.clear();
        self.order.resize(start as usize, 0);
        // Each start moves up to its end while its group fills.
        for (i, &code) in idx.iter().enumerate() {
            if let Some(next) = self.ends.get_mut(code as usize) {
                self.order[*next as usize] = i as u32;
                *next += 1;
            }
        }
    }

    fn rows(&self, code: usize) -> &[u32] {
        let start = if code == 0 { 0 } else { self.ends[code - 1] };
        &self.order[start as usize..self.ends[code] as usize]
    }
}

thread_local! {
    static GROUPED: Cell<Grouped> = Cell::default();
}

impl Kernel for CodeSums {
    fn name(&self) -> &'static str {
        "code_sums"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/code_sums.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        let (channels, codes, per) = self.tile();
        vec![
            int("D", self.d),
            int("CHANNELS", channels),
            int("CODES", codes),
            int("PER", per),
            flag("ACCUM", self.accum),
        ]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.n as u32, self.k as u32]
    }
    fn lens(&self) -> Vec<usize> {
        vec![self.n, self.n * self.d, self.k, self.k * self.d]
    }
    fn grid(&self) -> [u32; 3] {
        let (channels, codes, per) = self.tile();
        let [x, y, _] = grid_1d(self.k, codes * per);
        [x, y, self.d.div_ceil(channels) as u32]
    }
    fn cost(&self) -> Cost {
        let (rows, table) = (self.n * (self.d + 1), self.k * (self.d + 1));
        let passes = 1 + usize::from(self.accum);
        Cost { flops: rows as u64, bytes: 4 * (rows + passes * table) as u64 }
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        const CODES: usize = 32;
        let [Bind::InU(idx), Bind::In(z), Bind::Out(counts), Bind::Out(sums), ..] = &mut io.binds
        else {
            wrong_binds(self.name())
        };
        let (d, z) = (self.d, *z);
        let mut grouped = GROUPED.take();
        grouped.sort(idx, self.k);
        let owned = counts.par_chunks_mut(CODES).zip(sums.par_chunks_mut(CODES * d));
        owned.enumerate().for_each(|(chunk, (counts, sums))| {
            pulp::Arch::new().dispatch(|| {
                if !self.accum {
                    counts.fill(0.0);
                    sums.fill(0.0);
                }
                let codes = counts.iter_mut().zip(sums.chunks_exact_mut(d)).enumerate();
                for (c, (count, sum)) in codes {
                    let rows = grouped.rows(chunk * CODES + c);
                    *count += rows.len() as f32;
                    for &i in rows {
                        let row = &z[i as usize * d..][..d];
                        sum.iter_mut().zip(row).for_each(|(s, &z)| *s += z);
                    }
                }
            });
        });
        GROUPED.set(grouped);
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    let shapes = [
        (1, 1, 1),
        (41, 47, 3),
        (255, 8, 41),
        (257, 1, 64),
        (1000, 300, 8),
        (600, 55, 256),
        (47, 5, 300),
        (300, 1100, 200),
    ];
    for (turn, (n, k, d)) in shapes.into_iter().enumerate() {
        for accum in [false, true] {
            let kernel = CodeSums { n, k, d, accum };
            let name = format!("n={n} k={k} d={d} accum={accum}");
            let index = Fill::Index(k as u32);
            if accum == (turn % 2 == 0) {
                let out = if accum { Fill::Ints(-9, 9) } else { Fill::Poison };
                let fills = vec![index, Fill::Ints(-9, 9), out.clone(), out];
                cases.push(Case::new(name, kernel, fills).exact());
            } else {
                let out = if accum { Fill::normal() } else { Fill::Poison };
                let fills = vec![index, Fill::normal(), out.clone(), out];
                cases.push(Case::new(name, kernel, fills));
            }
        }
    }
    // Indices past k, and one code that takes nearly everything.
    let idx = (0..700).map(|i| if i % 100 == 7 { 5 + i } else { 2 }).collect();
    let fills = vec![Fill::U32(idx), Fill::Ints(-3, 3), Fill::Poison, Fill::Poison];
    let kernel = CodeSums { n: 700, k: 6, d: 7, accum: false };
    cases.push(Case::new("collapsed, with strays", kernel, fills).exact());
    cases
}
