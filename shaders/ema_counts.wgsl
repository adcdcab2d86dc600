// ema_n = DECAY ema_n + (1 - DECAY) counts where ctl[1] > 0, and in any case its total; one
// workgroup, because every code of ema_codebook needs the whole total.
const WG: u32 = 256u;
#import reduce

struct Dims { k: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> counts: array<f32>;
@group(0) @binding(1) var<storage, read> ctl: array<f32>;
@group(0) @binding(2) var<storage, read_write> ema_n: array<f32>;
@group(0) @binding(3) var<storage, read_write> total: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) lane: u32) {
    var sum = 0.0;
    for (var i = lane; i < dims.k; i += WG) {
        var n = ema_n[i];
        if ctl[1] > 0.0 {
            n = DECAY * n + (1.0 - DECAY) * counts[i];
            ema_n[i] = n;
        }
        sum += n;
    }
    let all = workgroup_sum(sum, lane);
    if lane == 0u {
        total[0] = all;
    }
}
