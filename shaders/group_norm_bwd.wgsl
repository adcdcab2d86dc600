// dx = rstd (gamma g - mean(gamma g) - xhat mean(gamma g xhat)), means over the group, taken from
// the per-channel sums; ACCUM: dx += ... A workgroup handles WG * PER elements of one group.
#import element
#if SILU
#import silu
#endif

const CV: u32 = CHANNELS / LANES;
const GROUP: u32 = CHANNELS / GROUPS / LANES;

struct Dims { hw: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> x: array<Element>;
@group(0) @binding(1) var<storage, read> stats: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> gamma: array<Element>;
@group(0) @binding(3) var<storage, read> beta: array<Element>;
@group(0) @binding(4) var<storage, read> dy: array<Element>;
@group(0) @binding(5) var<storage, read> sums: array<Element>;
@group(0) @binding(6) var<storage, read_write> dx: array<Element>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let sample = group.z;
    let first_channel = group.y * GROUP;
    let elements = dims.hw * GROUP;
    let stat = stats[sample * GROUPS + group.y];

    var with_xhat = Element(0.0);
    var plain = Element(0.0);
    for (var c = first_channel; c < first_channel + GROUP; c++) {
        with_xhat += gamma[c] * sums[2u * sample * CV + c];
        plain += gamma[c] * sums[(2u * sample + 1u) * CV + c];
    }
    let count = f32(elements * LANES);
    let mean_g = total(plain) / count;
    let mean_g_xhat = total(with_xhat) / count;

    let begin = group.x * WG * PER;
    let end = min(begin + WG * PER, elements);
    for (var e = begin + lane; e < end; e += WG) {
        let channel = first_channel + e % GROUP;
        let i = (sample * dims.hw + e / GROUP) * CV + channel;
        let xhat = (x[i] - Element(stat.x)) * stat.y;
        var g = dy[i];
#if SILU
        g *= silu_slope(gamma[channel] * xhat + beta[channel]);
#endif
        let v = stat.y * (gamma[channel] * g - Element(mean_g) - xhat * mean_g_xhat);
#if ACCUM
        dx[i] += v;
#else
        dx[i] = v;
#endif
    }
}
