// y[i] = partials[0][i] + partials[1][i] + ..., in this order; with ACCUM added to y.
#import flat

#if VEC4
alias Element = vec4<f32>;
#else
alias Element = f32;
#endif

struct Dims { n: u32, splits: u32 }  // elements, in units of Element
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> partials: array<Element>;
@group(0) @binding(1) var<storage, read_write> y: array<Element>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 64u + lane;
    if i >= dims.n {
        return;
    }
    var sum = partials[i];
    for (var s = 1u; s < dims.splits; s++) {
        sum += partials[s * dims.n + i];
    }
#if ACCUM
    y[i] += sum;
#else
    y[i] = sum;
#endif
}
