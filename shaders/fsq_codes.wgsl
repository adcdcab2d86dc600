// The values in [-1, 1] of the digits of an index, channel 0 the lowest digit; an element an
// invocation.
#import flat

struct Dims { rows: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> idx: array<u32>;
// half, offset, shift, L
@group(0) @binding(1) var<storage, read> channels: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

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
    var rest = idx[i / D];
    for (var c = 0u; c < i % D; c++) {
        rest /= u32(channels[c].w);
    }
    let levels = u32(channels[i % D].w);
    let digit = rest % levels;
    if levels == 2u {
        y[i] = select(-1.0, 1.0, digit == 1u);
    } else {
        let half = f32(levels / 2u);
        y[i] = (f32(digit) - half) / half;
    }
}
