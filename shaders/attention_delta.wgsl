// delta [b, heads, lq] = sum over d of y dy: one (query, head) an invocation.
#import flat
#import element

const DV: u32 = D / LANES;

struct Dims { tokens: u32, lq: u32, heads: u32 }  // tokens of the whole batch
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> y: array<Element>;
@group(0) @binding(1) var<storage, read> dy: array<Element>;
@group(0) @binding(2) var<storage, read_write> delta: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 64u + lane;
    if i >= dims.tokens * dims.heads {
        return;
    }
    var sum = Element(0.0);
    for (var j = 0u; j < DV; j++) {
        sum += y[i * DV + j] * dy[i * DV + j];
    }
    let token = i / dims.heads;
    let head = i % dims.heads;
    delta[(token / dims.lq * dims.heads + head) * dims.lq + token % dims.lq] = total(sum);
}
