// y = softmax(scale q k') v for one head and ROWS queries a workgroup, without ever holding a row
// of scores: a running maximum and sum (Milakov & Gimelshein 2018; Dao et al. 2022). lse = the
// logarithm of the softmax denominator, all that the backward pass needs.
#import attention_tile

// Of each row group, what the 8 invocations (ty, .) found among their own columns.
var<workgroup> per_column: array<vec4<f32>, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let ty = lane / 8u;
    let tx = lane % 8u;
    let width = dims.heads * D;
    let first_query = group.x * ROWS;
    let q_base = group.z * dims.lq * width + group.y * D;
    let k_base = group.z * dims.lk * width + group.y * D;

    var highest = vec4<f32>(LOWEST);  // of rows 4 ty + r, over all columns so far
    var mass = vec4<f32>(0.0);  // sum of exp(score - highest) over this invocation's own columns
#unroll chunk in 0..CHUNKS
    var result$chunk = zero_rows();
#endunroll
    for (var first = 0u; first < dims.lk; first += TILE) {
        var s = zero_rows();
        for (var chunk = 0u; chunk < CHUNKS; chunk++) {
            if CHUNKS > 1u || first == 0u {  // a single chunk of queries stays staged
                stage_rows(Q, q_base, first_query, dims.lq, width, chunk, lane);
            }
            stage_columns(K, k_base, first, dims.lk, width, chunk, lane);
            workgroupBarrier();
            s = add_products(s, ty, tx);
            workgroupBarrier();
        }
        let columns = vec4<u32>(first + tx) + vec4<u32>(0u, 8u, 16u, 24u);
#unroll r in 0..4
#if CAUSAL
        // Rows past the end see everything; column 0 is seen by all.
        let seen$r = min(first_query + 4u * ty + $ru + dims.lk - dims.lq + 1u, dims.lk);
#else
        let seen$r = dims.lk;
#endif
        s.r$r = select(vec4<f32>(LOWEST), s.r$r * dims.scale, columns < vec4<u32>(seen$r));
#endunroll
        per_column[lane] =
            vec4<f32>(greatest4(s.r0), greatest4(s.r1), greatest4(s.r2), greatest4(s.r3));
        workgroupBarrier();
        var higher = highest;
        for (var i = 0u; i < 8u; i++) {
            higher = max(higher, per_column[ty * 8u + i]);
        }
        let shrink = exp(highest - higher);
        highest = higher;
#unroll r in 0..4
        s.r$r = exp(s.r$r - vec4<f32>(highest[$r]));
#endunroll
        mass = mass * shrink + vec4<f32>(sum4(s.r0), sum4(s.r1), sum4(s.r2), sum4(s.r3));
        stage_scores(s, ty, tx);
#unroll chunk in 0..CHUNKS
        result$chunk.r0 *= shrink.x;
        result$chunk.r1 *= shrink.y;
        result$chunk.r2 *= shrink.z;
        result$chunk.r3 *= shrink.w;
        stage_columns(V, k_base, first, dims.lk, width, $chunku, lane);
        workgroupBarrier();
        result$chunk = add_mixture(result$chunk, ty, tx);
        workgroupBarrier();
#endunroll
    }

    per_column[lane] = mass;
    workgroupBarrier();
    var total_mass = vec4<f32>(0.0);
    for (var i = 0u; i < 8u; i++) {
        total_mass += per_column[ty * 8u + i];
    }
#unroll r in 0..4
    let query$r = first_query + 4u * ty + $ru;
    if query$r < dims.lq {
        if tx == 0u {
            lse[(group.z * dims.heads + group.y) * dims.lq + query$r] =
                highest[$r] + log(total_mass[$r]);
        }
        if tx < CHUNK4 {
#unroll chunk in 0..CHUNKS
            let result_$r_$chunk = result$chunk.r$r / total_mass[$r];
            store_chunk(Y, q_base + query$r * width, $chunku, tx, result_$r_$chunk);
#endunroll
        }
    }
#endunroll
}
