// partials[w] = sum of g^2 over the w-th chunk of a gradient segment; grad_ctl adds the partials.
struct Dims { n: u32, chunk: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> g: array<f32>;
@group(0) @binding(1) var<storage, read_write> partials: array<f32>;
#import partials

fn term(i: u32) -> f32 { return g[i] * g[i]; }

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
