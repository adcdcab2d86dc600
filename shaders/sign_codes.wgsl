// y = SCALE or -SCALE by the bits of an index, channel 0 the highest of D; an element an invocation.
#import flat

struct Dims { rows: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> idx: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 64u + lane;
    if i >= dims.rows * D {
        return;
    }
    let bit = (idx[i / D] >> (D - 1u - i % D)) & 1u;
    y[i] = select(-SCALE, SCALE, bit == 1u);
}
