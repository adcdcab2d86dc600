// y = x (ACCUM: y += x), one element (or vec4) an invocation.
#import flat

#if VEC4
alias Element = vec4<f32>;
#else
alias Element = f32;
#endif

struct Dims { n: u32 }  // elements, in units of Element
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> x: array<Element>;
@group(0) @binding(1) var<storage, read_write> y: array<Element>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 256u + lane;
    if i >= dims.n {
        return;
    }
#if ACCUM
    y[i] += x[i];
#else
    y[i] = x[i];
#endif
}
