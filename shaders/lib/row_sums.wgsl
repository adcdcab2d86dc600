// row_sums(value, lane): sums over the ROW_LANES neighbours that share a row, in a fixed binary tree,
// in a workgroup of 256. All of its invocations must call it. The kernel declares `alias RowSums`
// (f32 or a vector of it) and `const ROW_LANES: u32`, a power of two.
var<workgroup> row_scratch: array<RowSums, 256>;

fn row_sums(value: RowSums, lane: u32) -> RowSums {
    row_scratch[lane] = value;
    workgroupBarrier();
    for (var half = ROW_LANES / 2u; half > 0u; half /= 2u) {
        if lane % ROW_LANES < half {
            row_scratch[lane] += row_scratch[lane + half];
        }
        workgroupBarrier();
    }
    let sums = row_scratch[lane - lane % ROW_LANES];
    workgroupBarrier();
    return sums;
}
