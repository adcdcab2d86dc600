// sums [n, 2, CHANNELS]: per sample and channel, over hw, of g xhat (row 0) and g (row 1), where
// xhat = (x - mean) rstd and g = dy, or dy silu'(gamma xhat + beta). A workgroup sums COLUMNS
// channel elements of one sample, WG / COLUMNS rows at a time.
#import element
#import reduce_columns
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
@group(0) @binding(5) var<storage, read_write> sums: array<Element>;
#import group_stats

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let sample = group.y;
    let column = group.x * COLUMNS + lane % COLUMNS;
    let channel = min(column, CV - 1u);  // idle columns read along and write nothing
    let stat = stat_of(sample, channel);
#if SILU
    let scale = gamma[channel];
    let offset = beta[channel];
#endif
    var with_xhat = Element(0.0);
    var plain = Element(0.0);
    for (var row = lane / COLUMNS; row < dims.hw; row += WG / COLUMNS) {
        let i = (sample * dims.hw + row) * CV + channel;
        let xhat = (x[i] - stat.mean) * stat.rstd;
        var g = dy[i];
#if SILU
        g *= silu_slope(scale * xhat + offset);
#endif
        with_xhat += g * xhat;
        plain += g;
    }
    with_xhat = column_sum(with_xhat, lane);
    plain = column_sum(plain, lane);
    if lane < COLUMNS && column < CV {
        sums[2u * sample * CV + column] = with_xhat;
        sums[(2u * sample + 1u) * CV + column] = plain;
    }
}
