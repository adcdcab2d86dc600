// Partial sums of the entropy, in nats, of bits that are set with probability sigmoid(SLOPE z).
struct Dims { n: u32, chunk: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> z: array<f32>;
@group(0) @binding(1) var<storage, read_write> partials: array<f32>;
#import minus_log
#import partials_only

fn term(i: u32) -> f32 {
    let a = abs(SLOPE * z[i]);
    let e = exp(-a);
    let softplus = select(log(1.0 + e), -minus_log_series(-e), e < 0.015625);
    return softplus + a * e / (1.0 + e);
}
