// x_t: x_0 where u < alpha, one of the K codes by chance where u < alpha + K beta, else the mask K; alpha
// and beta are alpha_t and beta_t of the sample's noise.
#import flat
#import noise
#import philox
#import step

struct Dims { n: u32 }  // tokens of the batch
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> x_0: array<u32>;
@group(0) @binding(1) var<storage, read> noise: array<f32>;
@group(0) @binding(2) var<storage, read_write> x_t: array<u32>;

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
    let counter = vec4<u32>(i % LEN, STREAM, step.sample_base + b, 1u);
    let words = philox(counter, vec2<u32>(step.seed_lo, step.seed_hi));
    let u = unit(words.x);
    let n = noise_of(b);
    let alpha = n.alpha_t;
    let beta = n.beta_t;
    let other = select(K, words.y % K, u < alpha + f32(K) * beta);
    x_t[i] = select(other, x_0[i], u < alpha);
}
