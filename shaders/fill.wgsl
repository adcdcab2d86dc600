// y = bits, word by word: WGSL has no literal for a NaN, so the pattern comes by uniform.
#import flat

struct Dims { n: u32, bits: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read_write> y: array<u32>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 256u + lane;
    if i < dims.n {
        y[i] = dims.bits;
    }
}
