// What `nearest_code` computes, for rows so short that they fit a few registers: an invocation owns a
// row and walks the codebook, which passes through workgroup memory TILE codes at a time. All
// invocations read the same code at once, which GPUs broadcast.
#import nearest_rows

const WG: u32 = 64u;
const TILE: u32 = 256u;
var<workgroup> codes: array<vec4<f32>, TILE * D4>;
// Norm of a code, or with COSINE the factor of its score; 3e38 for one that is never chosen.
var<workgroup> weights: array<f32, TILE>;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let own_row = flat_group(group, groups) * WG + lane;
    let row = min(own_row, dims.n - 1u);
#unroll x in 0..D4
    let z$x = quad_of_row(row, $xu);
#endunroll
    var best = Best(FAR, FAR, 0u);
    for (var first = 0u; first < dims.k; first += TILE) {
        let count = min(dims.k - first, TILE);
        for (var i = lane; i < count; i += WG) {
            var norm = 0.0;
#unroll x in 0..D4
            let e$x = quad_of_code(first + i, $xu);
            norm += dot(e$x, e$x);
            codes[i * D4 + $xu] = e$x;
#endunroll
#if COSINE
            weights[i] = select(FAR, -2.0 * inverse_length(norm), norm < FAR);
#else
            weights[i] = norm;
#endif
        }
        workgroupBarrier();
        for (var i = 0u; i < count; i++) {
            var product = 0.0;
#unroll x in 0..D4
            product += dot(z$x, codes[i * D4 + $xu]);
#endunroll
#if COSINE
            let score = select(weights[i] * product, FAR, weights[i] == FAR);
#else
            let score = weights[i] - 2.0 * product;
#endif
            best = keep(best, score, first + i);
        }
        workgroupBarrier();
    }
    if own_row < dims.n {
        finish(best, row);
    }
}
