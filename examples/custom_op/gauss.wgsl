// y = exp(-x^2); backward dx (+)= -2 x y dy.
#import flat

struct Dims { n: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> x: array<f32>;
#if BACKWARD
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;
#else
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
#endif

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 64u + lane;
    if i >= dims.n {
        return;
    }
#if BACKWARD
    let d = -2.0 * x[i] * y[i] * dy[i];
#if ACCUM
    dx[i] += d;
#else
    dx[i] = d;
#endif
#else
    y[i] = exp(-x[i] * x[i]);
#endif
}
