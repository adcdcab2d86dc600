// da[n, h, w, c] = FACTOR dloss scale^2 (a - b) / (h rms[n, w, c]) (ACCUM: da += ...): the gradient of
// FACTOR sum rms.
#import flat

struct Dims { n: u32, h: u32, row: u32, scale: f32 }  // n: elements of a; row: w c
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read> rms: array<f32>;
@group(0) @binding(3) var<storage, read> dloss: array<f32>;
@group(0) @binding(4) var<storage, read_write> da: array<f32>;

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
    let column = i / (dims.h * dims.row) * dims.row + i % dims.row;
    let slope = dims.scale * dims.scale * (a[i] - b[i]) / (f32(dims.h) * rms[column]);
    let g = FACTOR * dloss[0] * slope;
#if ACCUM
    da[i] += g;
#else
    da[i] = g;
#endif
}
