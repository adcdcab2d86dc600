// da = FACTOR dloss w penalty'(a - b), w = 1 unless WEIGHTED (ACCUM: da += ...).
#import flat
#import penalty

struct Dims { n: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read> dloss: array<f32>;
#if WEIGHTED
@group(0) @binding(3) var<storage, read> weight: array<f32>;
@group(0) @binding(4) var<storage, read_write> da: array<f32>;
#else
@group(0) @binding(3) var<storage, read_write> da: array<f32>;
#endif

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
    var g = FACTOR * dloss[0] * penalty_slope(a[i] - b[i]);
#if WEIGHTED
    g *= weight[i];
#endif
#if ACCUM
    da[i] += g;
#else
    da[i] = g;
#endif
}
