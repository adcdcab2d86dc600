// dy = FACTOR dloss ((y - t) / (energy convergence) + sign(y - t) / (m y)) (ACCUM: dy += ...): the
// gradient of FACTOR sum of spectral_distance over samples.
#import flat

struct Dims { n: u32, m: u32 }  // all magnitudes; those of a sample
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> y: array<f32>;
@group(0) @binding(1) var<storage, read> t: array<f32>;
@group(0) @binding(2) var<storage, read> parts: array<f32>;
@group(0) @binding(3) var<storage, read> dloss: array<f32>;
@group(0) @binding(4) var<storage, read_write> dy: array<f32>;

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
    let sample = i / dims.m;
    let d = y[i] - t[i];
    let slope = d / (parts[2u * sample] * parts[2u * sample + 1u]) + sign(d) / (f32(dims.m) * y[i]);
    let g = FACTOR * dloss[0] * slope;
#if ACCUM
    dy[i] += g;
#else
    dy[i] = g;
#endif
}
