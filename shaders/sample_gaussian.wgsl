// z = mean + exp(logvar / 2) eps, the log-variance clamped to [-30, 20]; BACKWARD: dmoments (ACCUM: +=),
// which is 0 for a log-variance beyond the clamp.
#import flat

struct Dims { n: u32 }  // elements of z
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> moments: array<f32>;
@group(0) @binding(1) var<storage, read> eps: array<f32>;
#if BACKWARD
@group(0) @binding(2) var<storage, read> dz: array<f32>;
@group(0) @binding(3) var<storage, read_write> dmoments: array<f32>;
#else
@group(0) @binding(2) var<storage, read_write> z: array<f32>;
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
    let at = i / CHANNELS * 2u * CHANNELS + i % CHANNELS;
    let logvar = moments[at + CHANNELS];
    let deviation = exp(0.5 * clamp(logvar, -30.0, 20.0));
#if BACKWARD
    let passes = logvar >= -30.0 && logvar <= 20.0;
    let g = select(0.0, 0.5 * deviation * eps[i] * dz[i], passes);
#if ACCUM
    dmoments[at] += dz[i];
    dmoments[at + CHANNELS] += g;
#else
    dmoments[at] = dz[i];
    dmoments[at + CHANNELS] = g;
#endif
#else
    z[i] = moments[at] + deviation * eps[i];
#endif
}
