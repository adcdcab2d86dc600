// y = FACTOR sum of the partials (ACCUM: y += ...), one workgroup, fixed order.
const WG: u32 = 256u;
#import workgroup_sum

struct Dims { p: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> partials: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(
    @builtin(local_invocation_index) lane: u32,
#if SUBGROUPS
    entered: Subgroup,
#endif
) {
#if SUBGROUPS
    subgroup = entered;
#endif
    var sum = 0.0;
    for (var i = lane; i < dims.p; i += WG) {
        sum += partials[i];
    }
    let total = FACTOR * workgroup_sum(sum, lane);
    if lane == 0u {
#if ACCUM
        y[0] += total;
#else
        y[0] = total;
#endif
    }
}
