// partials[w] = sum of g^2 over the w-th chunk of a gradient segment; grad_ctl adds the partials.
struct Dims { n: u32, chunk: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> g: array<f32>;
@group(0) @binding(1) var<storage, read_write> partials: array<f32>;
#import partials_only

fn term(i: u32) -> f32 { return g[i] * g[i]; }
