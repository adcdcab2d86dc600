// y = FACTOR s x (ACCUM: y += ...), s a scalar on the device.
#import flat

struct Dims { n: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> s: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

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
    let v = FACTOR * s[0] * x[i];
#if ACCUM
    y[i] += v;
#else
    y[i] = v;
#endif
}
