// Rows of DV elements to unit length, ROW_LANES invocations a row. MODE 0: y = x / max(|x|, FLOOR).
// MODE 1: dx = (dy - y (y . dy)) / |x|, or dy / FLOOR where |x| < FLOOR (ACCUM: dx += ...).
// MODE 2: as 0, in place, unless ctl[1] > 0 fails. Rows with |x|^2 >= FAR become zero.
#import flat
#import element

struct Dims { rows: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
#if MODE == 0
@group(0) @binding(0) var<storage, read> x: array<Element>;
@group(0) @binding(1) var<storage, read_write> y: array<Element>;
#endif
#if MODE == 1
@group(0) @binding(0) var<storage, read> x: array<Element>;
@group(0) @binding(1) var<storage, read> dy: array<Element>;
@group(0) @binding(2) var<storage, read_write> dx: array<Element>;
#endif
#if MODE == 2
@group(0) @binding(0) var<storage, read> ctl: array<f32>;
@group(0) @binding(1) var<storage, read_write> x: array<Element>;
#endif

// |x|^2 and x . dy.
alias RowSums = vec2<f32>;
#import row_sums

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = flat_group(group, groups) * (256u / ROW_LANES) + lane / ROW_LANES;
    let first = row * DV + lane % ROW_LANES;
    // Rows past the last have no elements, but take part in the barriers.
    let end = select(0u, (row + 1u) * DV, row < dims.rows);

    var sums = RowSums(0.0);
    for (var i = first; i < end; i += ROW_LANES) {
#if MODE == 1
        sums += RowSums(total(x[i] * x[i]), total(x[i] * dy[i]));
#else
        sums.x += total(x[i] * x[i]);
#endif
    }
    sums = row_sums(sums, lane);

    let length = sqrt(sums.x);
    var scale = 1.0 / FLOOR;
    var along = 0.0;  // y . dy
    if !(length < FLOOR) {
        scale = 1.0 / length;
        along = scale * sums.y;
    }
    if sums.x >= FAR {
        scale = 0.0;
        along = 0.0;
    }
#if MODE == 0
    for (var i = first; i < end; i += ROW_LANES) {
        y[i] = scale * x[i];
    }
#endif
#if MODE == 1
    for (var i = first; i < end; i += ROW_LANES) {
        let g = scale * (dy[i] - scale * along * x[i]);
#if ACCUM
        dx[i] += g;
#else
        dx[i] = g;
#endif
    }
#endif
#if MODE == 2
    if ctl[1] > 0.0 {
        for (var i = first; i < end; i += ROW_LANES) {
            x[i] *= scale;
        }
    }
#endif
}
