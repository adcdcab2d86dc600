// One AdamW step over a flat segment, a vec4 an invocation: src/kernels/adamw.rs.
#import flat
#import step

struct Dims { n: u32 }  // vec4s
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> g: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> mask: array<f32>;  // one word a BLOCK
@group(0) @binding(2) var<storage, read> ctl: array<f32>;
@group(0) @binding(3) var<storage, read_write> p: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> m: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> v: array<vec4<f32>>;
#if EMA
@group(0) @binding(6) var<storage, read_write> ema: array<vec4<f32>>;
#endif

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 256u + lane;
    if i >= dims.n || ctl[1] == 0.0 {
        return;
    }
    let gradient = step.inv_lanes * ctl[2] * g[i];
    let m1 = BETA1 * m[i] + NEW1 * gradient;
    let v1 = BETA2 * v[i] + NEW2 * gradient * gradient;
    let decayed = (1.0 - step.lr * WEIGHT_DECAY * mask[i / BLOCK]) * p[i];
    let p1 = decayed - step.lr * (step.bias1 * m1) / (sqrt(step.bias2 * v1) + EPS);
    m[i] = m1;
    v[i] = v1;
    p[i] = p1;
#if EMA
    ema[i] += (1.0 - step.ema_decay) * (p1 - ema[i]);
#endif
}
