// ctl = (norm, apply, factor of the gradients, skipped steps): src/kernels/grad_ctl.rs. One
// workgroup. SCALED: the gradients are `scale` times too large, and the scale is adjusted.
const WG: u32 = 256u;
#import reduce
#import step

struct Dims { p: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> partials: array<f32>;
@group(0) @binding(1) var<storage, read_write> ctl: array<f32>;
#if SCALED
@group(0) @binding(2) var<storage, read_write> scale: array<f32>;
@group(0) @binding(3) var<storage, read_write> good: array<f32>;
#endif

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
#if SCALED
    let unscale = 1.0 / scale[0];
#else
    let unscale = 1.0;
#endif
    let norm = step.inv_lanes * unscale * sqrt(total);
    ctl[0] = norm;
    // NaN and infinities have all exponent bits set; WGSL may assume that comparisons see neither.
    if (bitcast<u32>(total) & 0x7f800000u) == 0x7f800000u {
        ctl[1] = 0.0;
        ctl[2] = 0.0;
        ctl[3] += 1.0;
#if SCALED
        scale[0] = max(0.5 * scale[0], LEAST);
        good[0] = 0.0;
#endif
    } else {
        ctl[1] = 1.0;
#if CLIPS
        ctl[2] = unscale * min(1.0, CLIP / (norm + 1e-6));
#else
        ctl[2] = unscale;
#endif
#if SCALED
        good[0] += 1.0;
        if good[0] >= f32(INTERVAL) {
            scale[0] = min(2.0 * scale[0], MOST);
            good[0] = 0.0;
        }
#endif
    }
}
