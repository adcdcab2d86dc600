//! Stage one of a sum over a whole tensor: one partial sum a chunk. No atomics: the chunks are
//! fixed, and [`super::sum_finish::SumFinish`] adds the partials in a fixed order.

use super::{
    Bind, Caps, Case, Const, Cost, Fill, Io, Kernel, Real, float, int, subgroup, wrong_binds,
};
use crate::naive_forms;
use rayon::prelude::*;
use std::sync::Arc;

/// What is summed over elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SumOp {
    /// x.
    Identity,
    /// x^2.
    Square,
    /// (x - b)^2, with b a second binding.
    SquaredDifference,
    /// x^2, and 0 for a NaN or an infinity.
    FiniteSquare,
}

impl SumOp {
    pub const ALL: [SumOp; 4] =
        [SumOp::Identity, SumOp::Square, SumOp::SquaredDifference, SumOp::FiniteSquare];
}

/// partials[w] = factor sum over chunk w, chunks of ceil(n / partials) elements. Bindings: x [n],
/// (b [n] for [`SumOp::SquaredDifference`],) partials [partials].
#[derive(Debug, Clone)]
pub struct SumAll {
    pub n: usize,
    pub op: SumOp,
    /// At most 65,535.
    pub partials: usize,
    /// Finite.
    pub factor: f32,
}

impl SumAll {
    fn chunk(&self) -> usize {
        self.n.div_ceil(self.partials)
    }

    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        let (x, b, partials) = match &mut io.binds {
            [Bind::In(x), Bind::In(b), Bind::Out(p), ..] => (*x, *b, p),
            [Bind::In(x), Bind::Out(p), ..] => (*x, *x, p),
            _ => wrong_binds(self.name()),
        };
        for (w, partial) in partials.iter_mut().enumerate() {
            let mut sum = T::zero();
            for i in w * self.chunk()..((w + 1) * self.chunk()).min(self.n) {
                sum += match self.op {
                    SumOp::Identity => x[i],
                    SumOp::Square => x[i] * x[i],
                    SumOp::SquaredDifference => (x[i] - b[i]) * (x[i] - b[i]),
                    SumOp::FiniteSquare if x[i].value().is_finite() => x[i] * x[i],
                    SumOp::FiniteSquare => T::zero(),
                };
            }
            *partial = T::of(self.factor.into()) * sum;
        }
    }
}

/// Sum of `term` over a slice in 32 interleaved lanes, vectorised for the machine at run time.
pub(super) fn lane_sum(x: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    lane_sum2(x, x, |x, _| term(x))
}

/// Sum of `term` over two slices of one length, as [`lane_sum`].
pub(super) fn lane_sum2(x: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    const LANES: usize = 32;
    pulp::Arch::new().dispatch(|| {
        let mut lanes = [0.0f32; LANES];
        let (xs, x_rest) = x.as_chunks::<LANES>();
        let (bs, b_rest) = b.as_chunks::<LANES>();
        for (x, b) in xs.iter().zip(bs) {
            for l in 0..LANES {
                lanes[l] += term(x[l], b[l]);
            }
        }
        for (lane, (&x, &b)) in lanes.iter_mut().zip(x_rest.iter().zip(b_rest)) {
            *lane += term(x, b);
        }
        let mut half = LANES / 2;
        while half > 0 {
            for l in 0..half {
                lanes[l] += lanes[l + half];
            }
            half /= 2;
        }
        lanes[0]
    })
}

impl Kernel for SumAll {
    fn name(&self) -> &'static str {
        "sum_all"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/sum_all.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        vec![int("OP", self.op as usize), float("FACTOR", self.factor), subgroup::off()]
    }
    fn dims(&self) -> Vec<u32> {
        vec![self.n as u32, self.chunk() as u32]
    }
    fn lens(&self) -> Vec<usize> {
        match self.op {
            SumOp::SquaredDifference => vec![self.n, self.n, self.partials],
            _ => vec![self.n, self.partials],
        }
    }
    fn grid(&self) -> [u32; 3] {
        [self.partials as u32, 1, 1]
    }
    fn cost(&self) -> Cost {
        let (flops, streams) = match self.op {
            SumOp::Identity => (1, 1),
            SumOp::SquaredDifference => (3, 2),
            SumOp::Square | SumOp::FiniteSquare => (2, 1),
        };
        let n = self.n as u64;
        Cost { flops: flops * n, bytes: 4 * (streams * n + self.partials as u64) }
    }
    fn variants(&self, caps: &Caps) -> Vec<Arc<dyn Kernel>> {
        subgroup::offer(self, caps)
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        let (x, b, partials) = match &mut io.binds {
            [Bind::In(x), Bind::In(b), Bind::Out(p), ..] => (*x, *b, p),
            [Bind::In(x), Bind::Out(p), ..] => (*x, *x, p),
            _ => wrong_binds(self.name()),
        };
        partials.par_iter_mut().enumerate().for_each(|(w, partial)| {
            let from = (w * self.chunk()).min(self.n);
            let to = (from + self.chunk()).min(self.n);
            let (x, b) = (&x[from..to], &b[from..to]);
            *partial = self.factor
                * match self.op {
                    SumOp::Identity => lane_sum(x, |x| x),
                    SumOp::Square => lane_sum(x, |x| x * x),
                    SumOp::SquaredDifference => lane_sum2(x, b, |x, b| (x - b) * (x - b)),
                    SumOp::FiniteSquare => lane_sum(x, |x| if x.is_finite() { x * x } else { 0.0 }),
                };
        });
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    let shapes = [(1, 1), (255, 1), (256, 3), (257, 4), (61, 64), (100_003, 47)];
    for (turn, (n, partials)) in shapes.into_iter().enumerate() {
        for op in SumOp::ALL {
            let kernel =
                SumAll { n, op, partials, factor: [1.0, 0.37, -2.0][(turn + op as usize) % 3] };
            let operands = kernel.lens().len() - 1;
            let filled = |fill: &Fill| {
                let mut fills = vec![fill.clone(); operands];
                fills.push(Fill::Poison);
                fills
            };
            let name = format!("{op:?} n={n} partials={partials}");
            if turn % 2 == 0 {
                cases.push(Case::new(name, kernel, filled(&Fill::normal())));
            } else {
                let whole = SumAll { factor: -2.0, ..kernel };
                cases.push(
                    Case::new(format!("{name}, integers"), whole, filled(&Fill::Ints(-8, 8)))
                        .exact(),
                );
            }
        }
    }
    let mut holes: Vec<f32> = (0..300).map(|i| (i % 7) as f32).collect();
    (holes[0], holes[77], holes[299]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
    let kernel = SumAll { n: 300, op: SumOp::FiniteSquare, partials: 2, factor: 1.0 };
    let fills = vec![Fill::F32(holes), Fill::Poison];
    cases.push(Case::new("NaN and infinities", kernel, fills).exact());
    cases
}
