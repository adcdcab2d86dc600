//! The second stage of several split sums in one launch: those of a layer's weights and bias, or of a
//! few layers. Every sum keeps the order that it has in a launch of its own.

use super::{
    Bind, Case, Const, Cost, Fill, Io, Kernel, MAX_BINDS, Real, SumPartials, flag, grid_1d, int,
    wrong_binds,
};
use crate::naive_forms;

/// Sums of one launch, at most: each binds its partials and its output.
pub const MAX_PARTS: usize = MAX_BINDS / 2;
/// Invocations of a workgroup.
const WG: usize = 64;
/// Switches of each part.
const SWITCHES: [(&str, &str); MAX_PARTS] =
    [("VEC4_0", "ACCUM_0"), ("VEC4_1", "ACCUM_1"), ("VEC4_2", "ACCUM_2"), ("VEC4_3", "ACCUM_3")];

/// Bindings: the partials of each part, then the output of each part.
#[derive(Debug, Clone)]
pub struct FinishSums {
    parts: Vec<SumPartials>,
}

/// Elements of a vector of the shader.
fn width(part: &SumPartials) -> usize {
    if part.n.is_multiple_of(4) { 4 } else { 1 }
}

/// Workgroups of a part; none is shared.
fn groups(part: &SumPartials) -> usize {
    (part.n / width(part)).div_ceil(WG)
}

impl FinishSums {
    /// At most [`MAX_PARTS`] of them.
    pub fn new(parts: Vec<SumPartials>) -> Self {
        FinishSums { parts }
    }

    /// The parts one by one, each through its own kernel.
    fn each<T>(&self, io: &mut Io<'_, T>, run: impl Fn(&SumPartials, &mut Io<'_, T>)) {
        let count = self.parts.len();
        let (partials, outs) = io.binds.split_at_mut(count);
        for ((part, partials), out) in self.parts.iter().zip(partials).zip(outs) {
            let (Bind::In(partials), Bind::Out(out)) = (partials, out) else {
                wrong_binds(self.name())
            };
            let mut one = Io::<T>::new(io.step);
            one.binds[0] = Bind::In(partials);
            one.binds[1] = Bind::Out(out);
            run(part, &mut one);
        }
    }

    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        self.each(io, |part, io| part.naive(io));
    }
}

impl Kernel for FinishSums {
    fn name(&self) -> &'static str {
        "finish_sums"
    }
    fn wgsl(&self) -> &'static str {
        include_str!("../../shaders/finish_sums.wgsl")
    }
    fn consts(&self) -> Vec<Const> {
        let mut consts = vec![int("PARTS", self.parts.len())];
        for (part, (vec4, accum)) in self.parts.iter().zip(SWITCHES) {
            consts.extend([flag(vec4, width(part) == 4), flag(accum, part.accum)]);
        }
        consts
    }
    fn dims(&self) -> Vec<u32> {
        let of = |p: &SumPartials| [groups(p), p.n / width(p), p.splits].map(|v| v as u32);
        self.parts.iter().flat_map(of).collect()
    }
    fn lens(&self) -> Vec<usize> {
        let partials = self.parts.iter().map(|p| p.splits * p.n);
        partials.chain(self.parts.iter().map(|p| p.n)).collect()
    }
    fn grid(&self) -> [u32; 3] {
        grid_1d(self.parts.iter().map(groups).sum(), 1)
    }
    fn cost(&self) -> Cost {
        let costs = self.parts.iter().map(Kernel::cost);
        costs.fold(Cost::default(), |a, b| Cost {
            flops: a.flops + b.flops,
            bytes: a.bytes + b.bytes,
        })
    }
    fn cpu(&self, io: &mut Io<'_, f32>) {
        self.each(io, |part, io| part.cpu(io));
    }
    naive_forms!();
}

pub fn cases() -> Vec<Case> {
    let part = |splits, n, accum| SumPartials { splits, n, accum };
    let lists = [
        vec![part(1, 1, false)],
        vec![part(2, 41, false), part(3, 256, false)],
        vec![part(7, 64, true), part(1, 4100, false), part(55, 3, true)],
        vec![part(5, 12, false), part(5, 144, true), part(2, 65, false), part(9, 260, false)],
    ];
    let mut cases = vec![];
    for parts in lists {
        for exact in [false, true] {
            let fill = if exact { Fill::Ints(-9, 9) } else { Fill::normal() };
            let mut fills = vec![fill.clone(); parts.len()];
            let out = |p: &SumPartials| if p.accum { fill.clone() } else { Fill::Poison };
            fills.extend(parts.iter().map(out));
            let case = Case::new(format!("{parts:?}"), FinishSums::new(parts.clone()), fills);
            cases.push(if exact { case.exact() } else { case });
        }
    }
    cases
}
