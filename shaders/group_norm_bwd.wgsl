// dx = rstd (gamma g - mean(gamma g) - xhat mean(gamma g xhat)), means over the group, taken from
// the per-channel sums; ACCUM: dx += ... A workgroup handles WG * PER elements of COLUMNS neighbouring
// elements of the rows, which make up STRIP groups.
#import element
#if SILU
#import silu
#endif

const CV: u32 = CHANNELS / LANES;
const WIDTH: u32 = CHANNELS / GROUPS;

struct Dims { hw: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> x: array<Element>;
@group(0) @binding(1) var<storage, read> stats: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> gamma: array<Element>;
@group(0) @binding(3) var<storage, read> beta: array<Element>;
@group(0) @binding(4) var<storage, read> dy: array<Element>;
@group(0) @binding(5) var<storage, read> sums: array<f32>;
@group(0) @binding(6) var<storage, read_write> dx: array<Element>;
#import group_stats

// (mean(gamma g), mean(gamma g xhat)) of the strip's groups.
var<workgroup> group_means: array<vec2<f32>, STRIP>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let sample = group.z;
    let own = group.y * STRIP + lane;
    if lane < STRIP && own < GROUPS {
        var with_xhat = 0.0;
        var plain = 0.0;
        for (var c = own * WIDTH; c < (own + 1u) * WIDTH; c++) {
            let scale = component(gamma[c / LANES], c % LANES);
            with_xhat += scale * sums[2u * sample * CHANNELS + c];
            plain += scale * sums[(2u * sample + 1u) * CHANNELS + c];
        }
        group_means[lane] = vec2<f32>(plain, with_xhat) / f32(dims.hw * WIDTH);
    }
    workgroupBarrier();

    let begin = group.x * WG * PER;
    let end = min(begin + WG * PER, dims.hw * COLUMNS);
    for (var e = begin + lane; e < end; e += WG) {
        let column = e % COLUMNS;
        let channel = group.y * COLUMNS + column;
        if channel < CV {
            let stat = stat_of(sample, channel);
#if WHOLE
            let means = group_means[column / (WIDTH / LANES)];
            let mean_g = Element(means.x);
            let mean_g_xhat = Element(means.y);
#else
            var mean_g: Element;
            var mean_g_xhat: Element;
#unroll j in 0..4
            mean_g[$j] = group_means[(column * 4u + $ju) / WIDTH].x;
            mean_g_xhat[$j] = group_means[(column * 4u + $ju) / WIDTH].y;
#endunroll
#endif
            let i = (sample * dims.hw + e / COLUMNS) * CV + channel;
            let xhat = (x[i] - stat.mean) * stat.rstd;
            var g = dy[i];
#if SILU
            g *= silu_slope(gamma[channel] * xhat + beta[channel]);
#endif
            let v = stat.rstd * (gamma[channel] * g - mean_g - xhat * mean_g_xhat);
#if ACCUM
            dx[i] += v;
#else
            dx[i] = v;
#endif
        }
    }
}
