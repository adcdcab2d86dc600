// (mean, 1 / sqrt(variance + EPS)) of every (sample, group) of x [n, hw, CHANNELS]: a workgroup each.
// Two passes, the first relative to the group's first element: a large common offset costs no digits.
#import element
#import workgroup_sum

const CV: u32 = CHANNELS / LANES;
const GROUP: u32 = CHANNELS / GROUPS / LANES;  // elements of a group in one row

struct Dims { hw: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> x: array<Element>;
@group(0) @binding(1) var<storage, read_write> stats: array<vec2<f32>>;

@compute @workgroup_size(WG)
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
    let base = group.y * dims.hw * CV + group.x * GROUP;
    let elements = dims.hw * GROUP;
    let count = f32(elements * LANES);
    let shift = first_lane(x[base]);

    var sum = Element(0.0);
    for (var i = lane; i < elements; i += WG) {
        sum += x[base + i / GROUP * CV + i % GROUP] - Element(shift);
    }
    let mean = shift + workgroup_sum(total(sum), lane) / count;

    var squares = Element(0.0);
    for (var i = lane; i < elements; i += WG) {
        let d = x[base + i / GROUP * CV + i % GROUP] - Element(mean);
        squares += d * d;
    }
    let variance = workgroup_sum(total(squares), lane) / count;
    if lane == 0u {
        stats[group.y * GROUPS + group.x] = vec2<f32>(mean, 1.0 / sqrt(variance + EPS));
    }
}
