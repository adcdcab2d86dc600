// dgate [samples, CHANNELS]: the sum of dy h over the rows_per_sample rows of each sample; ACCUM: dgate +=
// ... A workgroup sums COLUMNS channel elements of one sample.
#import element
#import reduce_columns

const CV: u32 = CHANNELS / LANES;

struct Dims { rows_per_sample: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> h: array<Element>;
@group(0) @binding(1) var<storage, read> dy: array<Element>;
@group(0) @binding(2) var<storage, read_write> dgate: array<Element>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let sample = group.y;
    let column = group.x * COLUMNS + lane % COLUMNS;
    let channel = min(column, CV - 1u);
    let end = (sample + 1u) * dims.rows_per_sample;
    var sum = Element(0.0);
    for (var row = sample * dims.rows_per_sample + lane / COLUMNS; row < end; row += WG / COLUMNS) {
        sum += dy[row * CV + channel] * h[row * CV + channel];
    }
    sum = column_sum(sum, lane);
    if lane < COLUMNS && column < CV {
#if ACCUM
        dgate[sample * CV + column] += sum;
#else
        dgate[sample * CV + column] = sum;
#endif
    }
}
