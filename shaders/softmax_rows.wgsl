// y = softmax(x) or, with LOG, log softmax(x) over each row of x [rows, K]: a workgroup a row.
#import flat
#import element
#import workgroup_max

const KV: u32 = K / LANES;

struct Dims { rows: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> x: array<Element>;
@group(0) @binding(1) var<storage, read_write> y: array<Element>;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
#if SUBGROUPS
    entered: Subgroup,
#endif
) {
#if SUBGROUPS
    subgroup = entered;
#endif
    let row = flat_group(group, groups);
    if row >= dims.rows {
        return;
    }
    let base = row * KV;
    // Lanes past the row's end repeat its first element: the maximum does not change.
    var highest = greatest(x[base]);
    for (var i = lane; i < KV; i += WG) {
        highest = max(highest, greatest(x[base + i]));
    }
    highest = workgroup_max(highest, lane);
    var sum = Element(0.0);
    for (var i = lane; i < KV; i += WG) {
        sum += exp(x[base + i] - Element(highest));
    }
    let mass = workgroup_sum(total(sum), lane);
    for (var i = lane; i < KV; i += WG) {
#if LOG
        y[base + i] = (x[base + i] - Element(highest)) - Element(log(mass));
#else
        y[base + i] = exp(x[base + i] - Element(highest)) / mass;
#endif
    }
}
