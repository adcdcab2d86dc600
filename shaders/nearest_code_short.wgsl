// What `nearest_code` computes, for rows so short that they fit a few registers: an invocation owns
// ROWS rows and walks the codebook, which passes through workgroup memory TILE codes at a time. All
// invocations read the same code at once, which GPUs broadcast.
//
// A code is staged as -2 e (with COSINE -2 e / |e|) and an offset, so that its score is
// offset + z . staged: the offset is |e|^2 (with COSINE 0), or FAR for a code that is never chosen.
// Where the last vec4 has room (not VEC4) the offset is its last component, beside a 1 in z.
#import nearest_rows

const WG: u32 = 64u;
const TILE: u32 = 256u;
const LAST: u32 = D4 - 1u;
var<workgroup> codes: array<vec4<f32>, TILE * D4>;
#if VEC4
var<workgroup> offsets: array<f32, TILE>;
#endif

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first_row = flat_group(group, groups) * (ROWS * WG) + lane;
#unroll r in 0..ROWS
    let row$r = min(first_row + $ru * WG, dims.n - 1u);
    var best$r = Best(FAR, FAR, 0u);
#unroll x in 0..D4
    var z$r_$x = quad_of_row(row$r, $xu);
#if !VEC4
    if $xu == LAST {
        z$r_$x.w = 1.0;
    }
#endif
#endunroll
#endunroll
    for (var first = 0u; first < dims.k; first += TILE) {
        let count = min(dims.k - first, TILE);
        for (var i = lane; i < count; i += WG) {
            var norm = 0.0;
#unroll x in 0..D4
            let e$x = quad_of_code(first + i, $xu);
            norm += dot(e$x, e$x);
#endunroll
#if COSINE
            let factor = -2.0 * inverse_length(norm);
            let offset = select(FAR, 0.0, norm < FAR);
#else
            let factor = -2.0;
            let offset = select(FAR, norm, norm < FAR);
#endif
#unroll x in 0..D4
            codes[i * D4 + $xu] = select(vec4<f32>(0.0), factor * e$x, norm < FAR);
#endunroll
#if VEC4
            offsets[i] = offset;
#else
            codes[i * D4 + LAST].w = offset;
#endif
        }
        workgroupBarrier();
        for (var i = 0u; i < count; i++) {
#if VEC4
            let offset = offsets[i];
#endif
#unroll x in 0..D4
            let e$x = codes[i * D4 + $xu];
#endunroll
#unroll r in 0..ROWS
#if VEC4
            var score$r = offset;
#else
            var score$r = 0.0;
#endif
#unroll x in 0..D4
            score$r += dot(z$r_$x, e$x);
#endunroll
            best$r = keep(best$r, score$r, first + i);
#endunroll
        }
        workgroupBarrier();
    }
#unroll r in 0..ROWS
    if first_row + $ru * WG < dims.n {
        finish(best$r, row$r);
    }
#endunroll
}
