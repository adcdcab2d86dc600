// Column sums of a workgroup seen as WG / COLUMNS rows of COLUMNS invocations, in a fixed binary
// tree over the rows; the total of column `lane` arrives in the first COLUMNS invocations.
// The kernel declares `WG`, `COLUMNS` (powers of two) and imports `element`.
var<workgroup> column_scratch: array<Element, WG>;

fn column_sum(value: Element, lane: u32) -> Element {
    column_scratch[lane] = value;
    workgroupBarrier();
    for (var half = WG / 2u; half >= COLUMNS; half /= 2u) {
        if lane < half {
            column_scratch[lane] += column_scratch[lane + half];
        }
        workgroupBarrier();
    }
    let result = column_scratch[lane % COLUMNS];
    workgroupBarrier();
    return result;
}
