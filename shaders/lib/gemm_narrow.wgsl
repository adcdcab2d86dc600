// The same block of a product as in `gemm_subgroup`, for outputs of at most BN = 4 COLUMNS4 columns:
// there most invocations would own columns that do not exist. Here each owns rows, RUNS of them (or
// four neighbours, where the loader gives four rows at one k), and the few elements of the right
// operand are what is loaded by turns and handed round: one vec4 an invocation for BK = 4 KQ k, as
// BK COLUMNS4 = WG.
fn gemm_block(m0: u32, n0: u32, k_end: u32, place: Place) {
    let lane = place.lane;
#if A_ALONG_K
#unroll r in 0..RUNS
    let row$r = m0 + $ru * WG + lane;
    let a_line_$r = a_line(row$r);
#endunroll
#else
#unroll r in 0..RUNS
    let row$r = m0 + 4u * lane + $ru;
#endunroll
    let a_line_0 = a_line(m0 + 4u * lane);
#endif
#if B_ALONG_K
    let b_line_ = b_line(n0 + lane % BN);
    let b_k = lane / BN * 4u;
#else
    let b_line_ = b_line(n0 + lane / BK * 4u);
    let b_k = lane % BK;
#endif
#unroll r in 0..RUNS
#unroll c in 0..COLUMNS4
    var sum_$r_$c = vec4<f32>(0.0);
#endunroll
#endunroll

    for (var kb = 0u; kb < k_end; kb += BK) {
        let own = load_b(b_line_, kb, b_k);
#unroll q in 0..KQ
        // b_c_q_j: columns 4 c .. 4 c + 3 at k = 4 q + j.
#unroll c in 0..COLUMNS4
#if B_ALONG_K
        let b_$c_$q = transpose(mat4x4<f32>(
            subgroupBroadcast(own, $qu * BN + 4u * $cu),
            subgroupBroadcast(own, $qu * BN + 4u * $cu + 1u),
            subgroupBroadcast(own, $qu * BN + 4u * $cu + 2u),
            subgroupBroadcast(own, $qu * BN + 4u * $cu + 3u),
        ));
#unroll j in 0..4
        let b_$c_$q_$j = b_$c_$q[$j];
#endunroll
#else
#unroll j in 0..4
        let b_$c_$q_$j = subgroupBroadcast(own, $cu * BK + 4u * $qu + $ju);
#endunroll
#endif
#endunroll
#if A_ALONG_K
#unroll r in 0..RUNS
        let a_$r_$q = load_a(a_line_$r, kb, 4u * $qu);
#unroll c in 0..COLUMNS4
#unroll j in 0..4
        sum_$r_$c += a_$r_$q[$j] * b_$c_$q_$j;
#endunroll
#endunroll
#endunroll
#else
#unroll j in 0..4
        let a_$q_$j = load_a(a_line_0, kb, 4u * $qu + $ju);
#unroll r in 0..RUNS
#unroll c in 0..COLUMNS4
        sum_$r_$c += a_$q_$j[$r] * b_$c_$q_$j;
#endunroll
#endunroll
#endunroll
#endif
#endunroll
    }
#unroll r in 0..RUNS
#unroll c in 0..COLUMNS4
    store(row$r, n0 + 4u * $cu, sum_$r_$c);
#endunroll
#endunroll
}
