// dlogits = dloss weight (softmax(logits) - onehot(target)), 0 where the weight is 0; ACCUM: += ...
// One element an invocation.
#import flat
#import element

const KV: u32 = K / LANES;

struct Dims { elements: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> logits: array<Element>;
@group(0) @binding(1) var<storage, read> targets: array<u32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read> lse: array<f32>;
@group(0) @binding(4) var<storage, read> dloss: array<f32>;
@group(0) @binding(5) var<storage, read_write> dlogits: array<Element>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 256u + lane;
    if i >= dims.elements {
        return;
    }
    let row = i / KV;
    let column = i % KV * LANES;
    var value = Element(0.0);
    if weight[row] != 0.0 {
        let t = targets[row];
#if VEC4
        let onehot = Element(vec4<u32>(column, column + 1u, column + 2u, column + 3u) == vec4(t));
#else
        let onehot = select(0.0, 1.0, column == t);
#endif
        value = dloss[row] * weight[row] * (exp(logits[i] - Element(lse[row])) - onehot);
    }
#if ACCUM
    dlogits[i] += value;
#else
    dlogits[i] = value;
#endif
}
