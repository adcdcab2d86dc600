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

// What a column needs of its group, or groups: a wide group has one entry for all of its columns.
struct Column { stat: Stat, mean_g: Element, mean_g_xhat: Element }
var<workgroup> columns: array<Column, KEPT>;
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
    if lane < KEPT {
        columns[lane].stat = stat_of(sample, min(group.y * COLUMNS + lane, CV - 1u));
#if WHOLE
        let means = group_means[lane / (WIDTH / LANES)];
        columns[lane].mean_g = Element(means.x);
        columns[lane].mean_g_xhat = Element(means.y);
#else
#unroll j in 0..4
        columns[lane].mean_g[$j] = group_means[(lane * 4u + $ju) / WIDTH].x;
        columns[lane].mean_g_xhat[$j] = group_means[(lane * 4u + $ju) / WIDTH].y;
#endunroll
#endif
    }
    workgroupBarrier();

    let begin = group.x * WG * PER;
    let end = min(begin + WG * PER, dims.hw * COLUMNS);
    for (var e = begin + lane; e < end; e += WG) {
        let column = e % COLUMNS;
        let channel = group.y * COLUMNS + column;
        if channel < CV {
            let known = columns[min(column, KEPT - 1u)];
            let i = (sample * dims.hw + e / COLUMNS) * CV + channel;
            let xhat = (x[i] - known.stat.mean) * known.stat.rstd;
            var g = dy[i];
#if SILU
            g *= silu_slope(gamma[channel] * xhat + beta[channel]);
#endif
            let v = known.stat.rstd
                * (gamma[channel] * g - known.mean_g - xhat * known.mean_g_xhat);
#if ACCUM
            dx[i] += v;
#else
            dx[i] = v;
#endif
        }
    }
}
