// sums [splits, 2, CHANNELS]: over chunks of `chunk` rows, dy xhat (row 0) and dy (row 1);
// ACCUM: sums += ... A workgroup sums COLUMNS channel elements of one chunk.
#import element
#import reduce_columns

const CV: u32 = CHANNELS / LANES;

struct Dims { rows: u32, chunk: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> x: array<Element>;
@group(0) @binding(1) var<storage, read> stats: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> dy: array<Element>;
@group(0) @binding(3) var<storage, read_write> sums: array<Element>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let split = group.y;
    let column = group.x * COLUMNS + lane % COLUMNS;
    let channel = min(column, CV - 1u);
    let end = min((split + 1u) * dims.chunk, dims.rows);
    var with_xhat = Element(0.0);
    var plain = Element(0.0);
    for (var row = split * dims.chunk + lane / COLUMNS; row < end; row += WG / COLUMNS) {
        let stat = stats[row];
        let g = dy[row * CV + channel];
        with_xhat += g * ((x[row * CV + channel] - Element(stat.x)) * stat.y);
        plain += g;
    }
    with_xhat = column_sum(with_xhat, lane);
    plain = column_sum(plain, lane);
    if lane < COLUMNS && column < CV {
        let at = 2u * split * CV + column;
#if ACCUM
        sums[at] += with_xhat;
        sums[at + CV] += plain;
#else
        sums[at] = with_xhat;
        sums[at + CV] = plain;
#endif
    }
}
