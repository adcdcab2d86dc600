//! The second stage of several split sums in one launch: those of a layer's weights and bias, or of a
//! few layers. Every sum keeps the order that it has in a launch of its own.

use super::generated::Generated;
use super::{Bind, Case, Const, Cost, Fill, Io, Kernel, MAX_BINDS, Real, SumPartials, grid_1d};
use crate::naive_forms;
use std::fmt::Write;

/// Sums of one launch, at most: each binds its partials and its output.
pub const MAX_PARTS: usize = MAX_BINDS / 2;
/// Invocations of a workgroup.
const WG: usize = 64;

/// Bindings: the partials of each part, then the output of each part.
#[derive(Debug, Clone)]
pub struct FinishSums {
    parts: Vec<SumPartials>,
    wgsl: Generated,
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
        let wgsl = Generated(text(&parts));
        FinishSums { parts, wgsl }
    }

    /// The parts one by one, each through its own kernel.
    fn each<T>(&self, io: &mut Io<'_, T>, run: impl Fn(&SumPartials, &mut Io<'_, T>)) {
        let count = self.parts.len();
        let (partials, outs) = io.binds.split_at_mut(count);
        for ((part, partials), out) in self.parts.iter().zip(partials).zip(outs) {
            let mut one = Io::<T>::new(io.step);
            if let (Bind::In(partials), Bind::Out(out)) = (partials, out) {
                one.binds[0] = Bind::In(partials);
                one.binds[1] = Bind::Out(out);
            }
            run(part, &mut one);
        }
    }

    fn naive<T: Real>(&self, io: &mut Io<'_, T>) {
        self.each(io, |part, io| part.naive(io));
    }
}

fn text(parts: &[SumPartials]) -> String {
    let (mut bindings, mut dims, mut branches) = (String::new(), String::new(), String::new());
    // Writing to a String cannot fail.
    for (i, part) in parts.iter().enumerate() {
        let element = if width(part) == 4 { "vec4<f32>" } else { "f32" };
        let out = parts.len() + i;
        let _ = writeln!(
            bindings,
            "@group(0) @binding({i}) var<storage, read> partials{i}: array<{element}>;\n\
             @group(0) @binding({out}) var<storage, read_write> y{i}: array<{element}>;"
        );
        let _ = write!(dims, " groups{i}: u32, n{i}: u32, splits{i}: u32,");
        let assign = if part.accum { "+=" } else { "=" };
        let _ = writeln!(
            branches,
            "    if group < dims.groups{i} {{\n        \
             let i = group * {WG}u + lane;\n        \
             if i < dims.n{i} {{\n            \
             var sum = partials{i}[i];\n            \
             for (var s = 1u; s < dims.splits{i}; s++) {{\n                \
             sum += partials{i}[s * dims.n{i} + i];\n            }}\n            \
             y{i}[i] {assign} sum;\n        }}\n        return;\n    }}\n    \
             group -= dims.groups{i};"
        );
    }
    format!(
        "// Generated for {} sums; each is sum_partials.wgsl.\n#import flat\n\n\
         struct Dims {{{dims} }}  // workgroups, elements, splits of each\n\
         @group(0) @binding(8) var<uniform> dims: Dims;\n{bindings}\n\
         @compute @workgroup_size({WG})\nfn main(\n    \
         @builtin(workgroup_id) workgroup: vec3<u32>,\n    \
         @builtin(num_workgroups) workgroups: vec3<u32>,\n    \
         @builtin(local_invocation_index) lane: u32,\n) {{\n    \
         var group = flat_group(workgroup, workgroups);\n{branches}}}\n",
        parts.len()
    )
}

impl Kernel for FinishSums {
    fn name(&self) -> &'static str {
        "finish_sums"
    }
    fn shader(&self) -> &'static str {
        "generated finish_sums"
    }
    fn wgsl(&self) -> &str {
        &self.wgsl
    }
    fn consts(&self) -> Vec<Const> {
        vec![]
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
