// dq of ROWS queries of one head a workgroup: dq = scale (p (dp - delta)) k with
// p = exp(scale q k' - lse) and dp = dy v'.
#import attention_tile

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let ty = lane / 8u;
    let tx = lane % 8u;
    let width = dims.heads * D;
    let first_query = group.x * ROWS;
    let q_base = group.z * dims.lq * width + group.y * D;
    let k_base = group.z * dims.lk * width + group.y * D;
    let rows = vec4<u32>(first_query + 4u * ty) + vec4<u32>(0u, 1u, 2u, 3u);
    let at = (group.z * dims.heads + group.y) * dims.lq + min(rows, vec4<u32>(dims.lq - 1u));
    let row_lse = vec4<f32>(lse[at.x], lse[at.y], lse[at.z], lse[at.w]);
    let row_delta = vec4<f32>(delta[at.x], delta[at.y], delta[at.z], delta[at.w]);
#unroll chunk in 0..CHUNKS
    var result$chunk = zero_rows();
#endunroll
    for (var first = 0u; first < dims.lk; first += TILE) {
        var s = zero_rows();
        for (var chunk = 0u; chunk < CHUNKS; chunk++) {
            stage_rows(Q, q_base, first_query, dims.lq, width, chunk, lane);
            stage_columns(K, k_base, first, dims.lk, width, chunk, lane);
            workgroupBarrier();
            s = add_products(s, ty, tx);
            workgroupBarrier();
        }
        var dp = zero_rows();
        for (var chunk = 0u; chunk < CHUNKS; chunk++) {
            stage_rows(DY, q_base, first_query, dims.lq, width, chunk, lane);
            stage_columns(V, k_base, first, dims.lk, width, chunk, lane);
            workgroupBarrier();
            dp = add_products(dp, ty, tx);
            workgroupBarrier();
        }
        let columns = vec4<u32>(first + tx) + vec4<u32>(0u, 8u, 16u, 24u);
        let valid = columns < vec4<u32>(dims.lk);
#unroll r in 0..4
        let p$r = exp(s.r$r * dims.scale - vec4<f32>(row_lse[$r]));
        dp.r$r = select(vec4<f32>(0.0), p$r * (dp.r$r - vec4<f32>(row_delta[$r])), valid);
#endunroll
        stage_scores(dp, ty, tx);
#unroll chunk in 0..CHUNKS
        stage_columns(K, k_base, first, dims.lk, width, $chunku, lane);
        workgroupBarrier();
        result$chunk = add_mixture(result$chunk, ty, tx);
        workgroupBarrier();
#endunroll
    }
#unroll r in 0..4
    if rows[$r] < dims.lq && tx < CHUNK4 {
#unroll chunk in 0..CHUNKS
        let gradient$r_$chunk = result$chunk.r$r * dims.scale;
        store_chunk(DQ, q_base + rows[$r] * width, $chunku, tx, gradient$r_$chunk);
#endunroll
    }
#endunroll
}
