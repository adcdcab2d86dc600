// The sums of `sum_partials`, PARTS of them in one launch. Part i has the first free groups$i
// workgroups; its elements are vec4s with VEC4_i, and with ACCUM_i it is added to y.
#import flat

struct Dims {
#unroll i in 0..PARTS
    groups$i: u32, n$i: u32, splits$i: u32,  // n in elements
#endunroll
}
@group(0) @binding(8) var<uniform> dims: Dims;
#unroll i in 0..PARTS
#if VEC4_$i
alias Element$i = vec4<f32>;
#else
alias Element$i = f32;
#endif
@group(0) @binding($i) var<storage, read> partials$i: array<Element$i>;
@group(0) @binding($iu + PARTS) var<storage, read_write> y$i: array<Element$i>;
#endunroll

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var group = flat_group(workgroup, workgroups);
#unroll i in 0..PARTS
    if group < dims.groups$i {
        let i = group * 64u + lane;
        if i < dims.n$i {
            var sum = partials$i[i];
            for (var s = 1u; s < dims.splits$i; s++) {
                sum += partials$i[s * dims.n$i + i];
            }
#if ACCUM_$i
            y$i[i] += sum;
#else
            y$i[i] = sum;
#endif
        }
        return;
    }
    group -= dims.groups$i;
#endunroll
}
