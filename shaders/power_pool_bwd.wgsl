// dx = dy K e(x) / (R^2 y), 0 where |x| >= 2 (ACCUM: dx += ...): the gradient of power_pool. One
// element of dx an invocation.
#import flat
#import pixel_power

struct Dims { n: u32, w: u32 }  // elements of x; width of x
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

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
    let pixel = i / CHANNELS;
    let block = pixel / dims.w / R * (dims.w / R) + pixel % dims.w / R;
    let at = block * CHANNELS + i % CHANNELS;
    var g = 0.0;
    if abs(x[i]) < 2.0 {
        g = dy[at] * K * pixel_power(x[i]) / (f32(R * R) * y[at]);
    }
#if ACCUM
    dx[i] += g;
#else
    dx[i] = g;
#endif
}
