// Partial sums of (mean^2 + var - 1 - logvar) / 2, the log-variance clamped to [-30, 20].
struct Dims { n: u32, chunk: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> moments: array<f32>;
@group(0) @binding(1) var<storage, read_write> partials: array<f32>;
#import partials_only

fn term(i: u32) -> f32 {
    let at = i / CHANNELS * 2u * CHANNELS + i % CHANNELS;
    let mean = moments[at];
    let logvar = clamp(moments[at + CHANNELS], -30.0, 20.0);
    return 0.5 * (mean * mean + exp(logvar) - 1.0 - logvar);
}
