// ctl = (norm, apply, clip factor, skipped steps): src/kernels/grad_ctl.rs. One workgroup.
const WG: u32 = 256u;
#import reduce
#import step

struct Dims { p: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> partials: array<f32>;
@group(0) @binding(1) var<storage, read_write> ctl: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) lane: u32) {
    var sum = 0.0;
    for (var i = lane; i < dims.p; i += WG) {
        sum += partials[i];
    }
    let total = workgroup_sum(sum, lane);
    if lane != 0u {
        return;
    }
    let norm = step.inv_lanes * sqrt(total);
    ctl[0] = norm;
    // NaN and infinities have all exponent bits set; WGSL may assume that comparisons see neither.
    if (bitcast<u32>(total) & 0x7f800000u) == 0x7f800000u {
        ctl[1] = 0.0;
        ctl[2] = 0.0;
        ctl[3] += 1.0;
    } else {
        ctl[1] = 1.0;
#if CLIPS
        ctl[2] = min(1.0, CLIP / (norm + 1e-6));
#else
        ctl[2] = 1.0;
#endif
    }
}
