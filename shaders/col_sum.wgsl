// partials[s][c] = sum of x[r][c] over the rows r of chunk s: the bias gradient before sum_partials.
// A workgroup takes COLUMNS elements of a row side by side and WG / COLUMNS rows at a time, so that
// narrow matrices keep it busy too.
#import flat

#if VEC4
alias Element = vec4<f32>;
#else
alias Element = f32;
#endif

struct Dims { rows: u32, chunk: u32, groups: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> x: array<Element>;
@group(0) @binding(1) var<storage, read_write> partials: array<Element>;

const WG: u32 = 64u;
var<workgroup> sums: array<Element, WG>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let flat = flat_group(group, groups);
    let column_groups = (WIDTH + COLUMNS - 1u) / COLUMNS;
    let split = flat / column_groups;
    let column = flat % column_groups * COLUMNS + lane % COLUMNS;
    let first = min(split * dims.chunk, dims.rows);
    let end = min(first + dims.chunk, dims.rows);
    var sum = Element(0.0);
    if column < WIDTH && flat < dims.groups {
        for (var row = first + lane / COLUMNS; row < end; row += WG / COLUMNS) {
            sum += x[row * WIDTH + column];
        }
    }
    sums[lane] = sum;
    workgroupBarrier();
    if lane < COLUMNS && column < WIDTH && flat < dims.groups {
        for (var i = 1u; i < WG / COLUMNS; i++) {
            sum += sums[i * COLUMNS + lane];
        }
        partials[split * WIDTH + column] = sum;
    }
}
