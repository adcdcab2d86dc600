// xt = MASK_TOKEN with probability t[b], else x0; weight = w[b] where masked, else 0.
#import flat
#import philox
#import step

struct Dims { n: u32 }  // tokens of the batch
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> x0: array<u32>;
@group(0) @binding(1) var<storage, read> t: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> xt: array<u32>;
@group(0) @binding(4) var<storage, read_write> weight: array<f32>;

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
    let b = i / LEN;
    let counter = vec4<u32>(i % LEN, STREAM, step.sample_base + b, 0u);
    let u = unit(philox(counter, vec2<u32>(step.seed_lo, step.seed_hi)).x);
    let masked = u < t[b];
    xt[i] = select(x0[i], MASK_TOKEN, masked);
    weight[i] = select(0.0, w[b], masked);
}
