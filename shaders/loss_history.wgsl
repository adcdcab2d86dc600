// history = KEPT history + NEW loss^2 and count += 1 for the samples of each step, in the order of the
// batch, where ctl[1] > 0. losses holds the times behind the losses. An invocation a step.
#import flat

@group(0) @binding(0) var<storage, read> losses: array<f32>;
@group(0) @binding(1) var<storage, read> ctl: array<f32>;
@group(0) @binding(2) var<storage, read_write> history: array<f32>;
@group(0) @binding(3) var<storage, read_write> count: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let t = flat_group(group, groups) * 64u + lane;
    if t >= STEPS || !(ctl[1] > 0.0) {
        return;
    }
    var mean = history[t];
    var n = count[t];
    for (var b = 0u; b < BATCH; b++) {
        if u32(losses[BATCH + b]) == t {
            let loss = losses[b];
            mean = KEPT * mean + NEW * loss * loss;
            n += 1.0;
        }
    }
    history[t] = mean;
    count[t] = n;
}
