// The block of `gemm_block` by one subgroup of WG invocations, without workgroup memory or barriers.
//
// Every invocation owns whole columns: COLUMNS4 vec4s of them for all BM rows. Of the left operand
// each loads its own rows, and broadcasts hand them round: a block of BM x BN costs
// (BM + BN) / WG vec4 loads an invocation for 4 k, and no two invocations load the same. Made for
// processors that emulate a subgroup by the lanes of a vector register: there a broadcast is one
// instruction, a load as many as there are lanes, and a barrier a switch of coroutines.
fn gemm_block(m0: u32, n0: u32, k_end: u32, place: Place) {
    let lane = place.lane;
    // Row x Y_ROWS + y comes from invocation y (along k: one row each) or x (across: four rows).
#if A_ALONG_K
#unroll x in 0..X_ROWS
    let a_line_$x = a_line(m0 + $xu * WG + lane);
#endunroll
#else
    let a_line_ = a_line(m0 + 4u * lane);
#endif
#unroll p in 0..COLUMNS4
    let column$p = n0 + 4u * ($pu * WG + lane);
#if B_ALONG_K
#unroll j in 0..4
    let b_line_$p_$j = b_line(column$p + $ju);
#endunroll
#else
    let b_line_$p = b_line(column$p);
#endif
#unroll x in 0..X_ROWS
#unroll y in 0..Y_ROWS
    var sum_$x_$y_$p = vec4<f32>(0.0);
#endunroll
#endunroll
#endunroll

    for (var kb = 0u; kb < k_end; kb += BK) {
#unroll p in 0..COLUMNS4
#if B_ALONG_K
        let b_$p = transpose(mat4x4<f32>(
            load_b(b_line_$p_0, kb, 0u),
            load_b(b_line_$p_1, kb, 0u),
            load_b(b_line_$p_2, kb, 0u),
            load_b(b_line_$p_3, kb, 0u),
        ));
#unroll j in 0..4
        let b_$p_$j = b_$p[$j];
#endunroll
#else
#unroll j in 0..4
        let b_$p_$j = load_b(b_line_$p, kb, $ju);
#endunroll
#endif
#endunroll
#if A_ALONG_K
#unroll x in 0..X_ROWS
        let own_$x = load_a(a_line_$x, kb, 0u);
#unroll y in 0..Y_ROWS
        let a_$x_$y = subgroupBroadcast(own_$x, $yu);
#unroll p in 0..COLUMNS4
#unroll j in 0..4
        sum_$x_$y_$p += a_$x_$y[$j] * b_$p_$j;
#endunroll
#endunroll
#endunroll
#endunroll
#else
#unroll j in 0..4
        let own_$j = load_a(a_line_, kb, $ju);
#endunroll
#unroll x in 0..X_ROWS
#unroll j in 0..4
        let a_$x_$j = subgroupBroadcast(own_$j, $xu);
#endunroll
#unroll y in 0..Y_ROWS
#unroll p in 0..COLUMNS4
#unroll j in 0..4
        sum_$x_$y_$p += a_$x_$j[$y] * b_$p_$j;
#endunroll
#endunroll
#endunroll
#endunroll
#endif
    }
#unroll x in 0..X_ROWS
#unroll y in 0..Y_ROWS
#unroll p in 0..COLUMNS4
    store(m0 + $xu * Y_ROWS + $yu, column$p, sum_$x_$y_$p);
#endunroll
#endunroll
#endunroll
}
