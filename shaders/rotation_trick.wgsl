// The gradient of z through the rotation and scaling that takes z to its code, both held constant:
// dz = |q| / |z| (dy - 2 r (r . dy) + 2 z^ (q^ . dy)) with q the code, z^ = z / |z|, q^ = q / |q| and
// r = (z^ + q^) / |z^ + q^|, or dz = dy where |z|, |q| or |z^ + q^| is below SHORT, or |z|^2 or |q|^2
// not below FAR (ACCUM: dz += ...). Rows of DV elements, ROW_LANES invocations a row.
#import flat
#import element

struct Dims { rows: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> z: array<Element>;
@group(0) @binding(1) var<storage, read> code: array<Element>;
@group(0) @binding(2) var<storage, read> dy: array<Element>;
@group(0) @binding(3) var<storage, read_write> dz: array<Element>;

alias RowSums = vec3<f32>;
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

    var squares = RowSums(0.0);
    for (var i = first; i < end; i += ROW_LANES) {
        squares += RowSums(total(z[i] * z[i]), total(code[i] * code[i]), 0.0);
    }
    squares = row_sums(squares, lane);
    let lengths = sqrt(squares.xy);
    // Those of rows that are passed straight through are not used.
    let inverse = 1.0 / max(lengths, vec2<f32>(SHORT));

    // With s = z^ + q^: s . s, s . dy and q^ . dy.
    var sums = RowSums(0.0);
    for (var i = first; i < end; i += ROW_LANES) {
        let unit_code = inverse.y * code[i];
        let s = inverse.x * z[i] + unit_code;
        sums += RowSums(total(s * s), total(s * dy[i]), total(unit_code * dy[i]));
    }
    sums = row_sums(sums, lane);

    let long = all(lengths >= vec2<f32>(SHORT)) && sqrt(sums.x) >= SHORT;
    let turns = long && all(squares.xy < vec2<f32>(FAR));
    let lambda = lengths.y * inverse.x;
    let along = sums.y / max(sums.x, SHORT * SHORT);
    for (var i = first; i < end; i += ROW_LANES) {
        let unit = inverse.x * z[i];
        let s = unit + inverse.y * code[i];
        let turned = lambda * (dy[i] - 2.0 * along * s + 2.0 * sums.z * unit);
        let g = select(dy[i], turned, turns);
#if ACCUM
        dz[i] += g;
#else
        dz[i] = g;
#endif
    }
}
