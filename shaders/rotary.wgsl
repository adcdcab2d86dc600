// Pairs (a, b) of neighbouring channels of x [rows, HEADS, D] turned by their place: y = (a cos - b sin,
// a sin + b cos), BACK: the other way (ACCUM: y += ...). table [LENGTH, D] = (cos, sin) of each pair of a
// head. Two pairs an invocation.
#import flat

const DV: u32 = D / 4u;

struct Dims { rows: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> table: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 256u + lane;
    if i >= dims.rows * HEADS * DV {
        return;
    }
    let place = i / (HEADS * DV) % LENGTH;
    let turn = table[place * DV + i % DV];
    let cosines = turn.xxzz;
#if BACK
    let sines = turn.yyww * vec4<f32>(1.0, -1.0, 1.0, -1.0);
#else
    let sines = turn.yyww * vec4<f32>(-1.0, 1.0, -1.0, 1.0);
#endif
    let pairs = x[i];
    let v = pairs * cosines + pairs.yxwz * sines;
#if ACCUM
    y[i] += v;
#else
    y[i] = v;
#endif
}
