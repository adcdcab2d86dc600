// y = SCALE sign(z) with sign(0) = 1, and the number that the signs of a row write, channel 0 the
// highest bit; a row an invocation.
#import flat

struct Dims { rows: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> z: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> idx: array<u32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = flat_group(group, groups) * 64u + lane;
    if row >= dims.rows {
        return;
    }
    var index = 0u;
    for (var i = row * D; i < (row + 1u) * D; i++) {
        let positive = z[i] >= 0.0;
        y[i] = select(-SCALE, SCALE, positive);
        index = 2u * index + select(0u, 1u, positive);
    }
    idx[row] = index;
}
