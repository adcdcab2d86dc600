// m = DECAY m + (1 - DECAY) sums; e = m / ((N + EPS) / (total + K EPS) total). Nothing changes
// unless ctl[1] > 0.
#import flat

@group(0) @binding(0) var<storage, read> sums: array<f32>;
@group(0) @binding(1) var<storage, read> ctl: array<f32>;
@group(0) @binding(2) var<storage, read> ema_n: array<f32>;
@group(0) @binding(3) var<storage, read> total: array<f32>;
@group(0) @binding(4) var<storage, read_write> ema_m: array<f32>;
@group(0) @binding(5) var<storage, read_write> codebook: array<f32>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 256u + lane;
    if i >= K * D || !(ctl[1] > 0.0) {
        return;
    }
    let m = DECAY * ema_m[i] + (1.0 - DECAY) * sums[i];
    let smoothed = (ema_n[i / D] + EPS) / (total[0] + f32(K) * EPS) * total[0];
    ema_m[i] = m;
    codebook[i] = m / smoothed;
}
