// Weighted cross-entropy of logits [rows, K]: lse = log sum exp(logits) and
// loss = weight (lse - logits[target]), exactly 0 where the weight is 0. A workgroup a row.
#import flat
#import element
#import workgroup_max

const KV: u32 = K / LANES;

struct Dims { rows: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> logits: array<Element>;
@group(0) @binding(1) var<storage, read> targets: array<u32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> loss: array<f32>;
@group(0) @binding(4) var<storage, read_write> lse: array<f32>;

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
    var highest = greatest(logits[base]);
    for (var i = lane; i < KV; i += WG) {
        highest = max(highest, greatest(logits[base + i]));
    }
    highest = workgroup_max(highest, lane);
    var sum = Element(0.0);
    for (var i = lane; i < KV; i += WG) {
        sum += exp(logits[base + i] - Element(highest));
    }
    let log_mass = log(workgroup_sum(total(sum), lane));
    if lane == 0u {
        lse[row] = highest + log_mass;
        // A row without weight may have no valid target.
        var value = 0.0;
        if weight[row] != 0.0 {
            let t = targets[row];
#if VEC4
            let logit = logits[base + t / 4u][t % 4u];
#else
            let logit = logits[base + t];
#endif
            value = weight[row] * ((highest - logit) + log_mass);
        }
        loss[row] = value;
    }
}
