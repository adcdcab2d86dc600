// dgamma, dbeta [CHANNELS] (ACCUM: +=) from sums [splits, 2, CHANNELS], the splits in a fixed order. A workgroup
// sums COLUMNS channel elements, WG / COLUMNS splits at a time.
#import element
#import reduce_columns

const CV: u32 = CHANNELS / LANES;

struct Dims { splits: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> sums: array<Element>;
@group(0) @binding(1) var<storage, read_write> dgamma: array<Element>;
@group(0) @binding(2) var<storage, read_write> dbeta: array<Element>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let column = group.x * COLUMNS + lane % COLUMNS;
    let channel = min(column, CV - 1u);
    var scale = Element(0.0);
    var offset = Element(0.0);
    for (var s = lane / COLUMNS; s < dims.splits; s += WG / COLUMNS) {
        scale += sums[2u * s * CV + channel];
        offset += sums[(2u * s + 1u) * CV + channel];
    }
    scale = column_sum(scale, lane);
    offset = column_sum(offset, lane);
    if lane < COLUMNS && column < CV {
#if ACCUM
        dgamma[column] += scale;
        dbeta[column] += offset;
#else
        dgamma[column] = scale;
        dbeta[column] = offset;
#endif
    }
}
