// dk and dv of ROWS keys of one head a workgroup: the rows of the tile are keys, the columns
// queries. With p = exp(scale q k' - lse) and dp = dy v':
// dv = p' dy, dk = scale (p (dp - delta))' q.
#import attention_tile

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let ty = lane / 8u;
    let tx = lane % 8u;
    let width = dims.heads * D;
    let first_key = group.x * ROWS;
    let q_base = group.z * dims.lq * width + group.y * D;
    let k_base = group.z * dims.lk * width + group.y * D;
    let stat_base = (group.z * dims.heads + group.y) * dims.lq;
#unroll chunk in 0..CHUNKS
    var key$chunk = zero_rows();
    var value$chunk = zero_rows();
#endunroll
    for (var first = 0u; first < dims.lq; first += TILE) {
        var s = zero_rows();
        for (var chunk = 0u; chunk < CHUNKS; chunk++) {
            stage_rows(K, k_base, first_key, dims.lk, width, chunk, lane);
            stage_columns(Q, q_base, first, dims.lq, width, chunk, lane);
            workgroupBarrier();
            s = add_products(s, ty, tx);
            workgroupBarrier();
        }
        var dp = zero_rows();
        for (var chunk = 0u; chunk < CHUNKS; chunk++) {
            stage_rows(V, k_base, first_key, dims.lk, width, chunk, lane);
            stage_columns(DY, q_base, first, dims.lq, width, chunk, lane);
            workgroupBarrier();
            dp = add_products(dp, ty, tx);
            workgroupBarrier();
        }
        let columns = vec4<u32>(first + tx) + vec4<u32>(0u, 8u, 16u, 24u);
        let valid = columns < vec4<u32>(dims.lq);
        let at = stat_base + min(columns, vec4<u32>(dims.lq - 1u));
        let column_lse = vec4<f32>(lse[at.x], lse[at.y], lse[at.z], lse[at.w]);
        let column_delta = vec4<f32>(delta[at.x], delta[at.y], delta[at.z], delta[at.w]);
#unroll r in 0..4
        s.r$r = select(vec4<f32>(0.0), exp(s.r$r * dims.scale - column_lse), valid);
        dp.r$r = s.r$r * (dp.r$r - column_delta);
#endunroll
        stage_scores(s, ty, tx);
#unroll chunk in 0..CHUNKS
#if CHUNKS > 1
        stage_columns(DY, q_base, first, dims.lq, width, $chunku, lane);
#endif
        workgroupBarrier();
        value$chunk = add_mixture(value$chunk, ty, tx);
        workgroupBarrier();
#endunroll
        stage_scores(dp, ty, tx);
#unroll chunk in 0..CHUNKS
        stage_columns(Q, q_base, first, dims.lq, width, $chunku, lane);
        workgroupBarrier();
        key$chunk = add_mixture(key$chunk, ty, tx);
        workgroupBarrier();
#endunroll
    }
#unroll r in 0..4
    let token$r = first_key + 4u * ty + $ru;
    if token$r < dims.lk && tx < CHUNK4 {
#unroll chunk in 0..CHUNKS
        let gradient$r_$chunk = key$chunk.r$r * dims.scale;
        store_chunk(DK, k_base + token$r * width, $chunku, tx, gradient$r_$chunk);
        store_chunk(DV, k_base + token$r * width, $chunku, tx, value$chunk.r$r);
#endunroll
    }
#endunroll
}
