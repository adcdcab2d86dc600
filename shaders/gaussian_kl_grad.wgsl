// dmoments = FACTOR dloss (mean | (var - 1) / 2) (ACCUM: +=), 0 for a log-variance beyond [-30, 20].
#import flat

struct Dims { n: u32 }  // elements of moments
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> moments: array<f32>;
@group(0) @binding(1) var<storage, read> dloss: array<f32>;
@group(0) @binding(2) var<storage, read_write> dmoments: array<f32>;

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
    let x = moments[i];
    var slope = x;
    if i % (2u * CHANNELS) >= CHANNELS {
        let passes = x >= -30.0 && x <= 20.0;
        slope = select(0.0, 0.5 * (exp(clamp(x, -30.0, 20.0)) - 1.0), passes);
    }
    let g = FACTOR * dloss[0] * slope;
#if ACCUM
    dmoments[i] += g;
#else
    dmoments[i] = g;
#endif
}
