// idx[row] = argmin_k x[row, k], the lowest index winning ties, for each row of x [rows, K]: a
// workgroup a row. NaNs and values from FAR on are passed over; a row of nothing else gives 0.
#import flat
#import element
#import workgroup_argmin

const KV: u32 = K / LANES;
const FAR: f32 = 3e38;

struct Dims { rows: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> x: array<Element>;
@group(0) @binding(1) var<storage, read_write> idx: array<u32>;

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
    var least = FAR;
    var index = 0u;
    for (var i = lane; i < KV; i += WG) {
        let value = x[row * KV + i];
#if VEC4
#unroll c in 0..4
        if value[$c] < least {
            least = value[$c];
            index = 4u * i + $cu;
        }
#endunroll
#else
        if value < least {
            least = value;
            index = i;
        }
#endif
    }
    index = workgroup_argmin(least, index, lane);
    if lane == 0u {
        idx[row] = index;
    }
}
