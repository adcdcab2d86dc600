// Partial sums of the entropy, in nats, of bits that are set with probability sigmoid(SLOPE z).
struct Dims { n: u32, chunk: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> z: array<f32>;
@group(0) @binding(1) var<storage, read_write> partials: array<f32>;
#import partials

fn term(i: u32) -> f32 {
    let a = abs(SLOPE * z[i]);
    let e = exp(-a);
    // WGSL has no log1p, and its log has an absolute error near 1.
    let series = e * (1.0 - e * (0.5 - e * (0.33333334 - e * 0.25)));
    let softplus = select(log(1.0 + e), series, e < 0.015625);
    return softplus + a * e / (1.0 + e);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
#if SUBGROUPS
    entered: Subgroup,
#endif
) {
#if SUBGROUPS
    subgroup = entered;
#endif
    let sum = partial_sum(group.x, lane);
    if lane == 0u {
        partials[group.x] = sum;
    }
}
