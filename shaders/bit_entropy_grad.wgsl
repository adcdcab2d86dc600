// dz = -FACTOR dloss SLOPE l s (1 - s) with l = SLOPE z and s = sigmoid(l) (ACCUM: dz += ...).
#import flat

struct Dims { n: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> z: array<f32>;
@group(0) @binding(1) var<storage, read> dloss: array<f32>;
@group(0) @binding(2) var<storage, read_write> dz: array<f32>;

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
    let l = SLOPE * z[i];
    let e = exp(-abs(l));
    let g = -(FACTOR * dloss[0] * SLOPE) * l * e / ((1.0 + e) * (1.0 + e));
#if ACCUM
    dz[i] += g;
#else
    dz[i] = g;
#endif
}
