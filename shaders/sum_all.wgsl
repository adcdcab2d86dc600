// partials[w] = FACTOR sum of term(i) over the w-th chunk; sum_finish adds the partials.
struct Dims { n: u32, chunk: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> x: array<f32>;
#if OP == 2
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> partials: array<f32>;
#else
@group(0) @binding(1) var<storage, read_write> partials: array<f32>;
#endif
#import partials

#if OP == 0
fn term(i: u32) -> f32 { return x[i]; }
#endif
#if OP == 1
fn term(i: u32) -> f32 { return x[i] * x[i]; }
#endif
#if OP == 2
fn term(i: u32) -> f32 {
    let difference = x[i] - b[i];
    return difference * difference;
}
#endif
#if OP == 3
fn term(i: u32) -> f32 {
    // NaN and infinities have all exponent bits set; WGSL may assume that comparisons see neither.
    let finite = (bitcast<u32>(x[i]) & 0x7f800000u) != 0x7f800000u;
    return select(0.0, x[i] * x[i], finite);
}
#endif

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
#if SUBGROUPS
    entered: Subgroup,
#endif
) {
#if SUBGROUPS
    subgroup = entered;
#endif
    let sum = partial_sum(group.x, lane);
    if lane == 0u {
        partials[group.x] = FACTOR * sum;
    }
}
