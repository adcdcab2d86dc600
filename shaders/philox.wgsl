// Random words, one block of four an invocation.
#import flat
#import philox
#import step

struct Dims { n: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read_write> bits: array<u32>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 256u + lane;
    let words = philox(vec4<u32>(i, STREAM, step.step, 0u), vec2<u32>(step.seed_lo, step.seed_hi));
#unroll e in 0..4
    if 4u * i + $eu < dims.n {
        bits[4u * i + $eu] = words[$e];
    }
#endunroll
}
