// partials[p] = sum of w penalty(a - b) over the p-th chunk (w = 1 unless WEIGHTED); sum_finish adds
// the partials.
#import penalty

struct Dims { n: u32, chunk: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
#if WEIGHTED
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> partials: array<f32>;
#else
@group(0) @binding(2) var<storage, read_write> partials: array<f32>;
#endif
#import partials_only

fn term(i: u32) -> f32 {
#if WEIGHTED
    return weight[i] * penalty(a[i] - b[i]);
#else
    return penalty(a[i] - b[i]);
#endif
}
