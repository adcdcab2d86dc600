// One block of a matrix product, y[m, n] = sum_k a[m, k] b[k, n], by 64 invocations.
//
// Blocks of both operands are staged in workgroup memory; every invocation keeps 8 x 8 sums in
// registers, as two times two 4 x 4 tiles half a block apart, so that neighbours read neighbouring
// vec4s. The importing shader says where the operands live:
//
//   alias ALine, a_line(m), load_a(line, kb, kk) -> vec4    alias BLine, b_line(n), load_b(...)
//
// A_ALONG_K: a line is one row m, and load_a returns its elements k..k+3 (k = kb + kk, where kb is
// the same in the whole workgroup). Otherwise a line is four rows m..m+3 and load_a returns their
// elements at k. The same for B_ALONG_K and columns. Beyond the last k a loader must return zeros;
// beyond the last row or column anything, as store(m, n, v), which takes columns n..n+3, drops it.
var<workgroup> a_block: array<vec4<f32>, BM * BK / 4u>;  // [k][m / 4]
var<workgroup> b_block: array<vec4<f32>, BN * BK / 4u>;  // [k][n / 4]

fn gemm_block(m0: u32, n0: u32, k_end: u32, lane: u32) {
    // The 4 x 4 elements of each operand that this invocation stages: their corner in the block.
#unroll r in 0..A_PASSES
#if A_ALONG_K
    let a_m$r = (lane + $ru * 64u) / (BK / 4u) * 4u;
    let a_k$r = (lane + $ru * 64u) % (BK / 4u) * 4u;
#unroll i in 0..4
    let a_line_$r_$i = a_line(m0 + a_m$r + $iu);
#endunroll
#else
    let a_m$r = (lane + $ru * 64u) % (BM / 4u) * 4u;
    let a_k$r = (lane + $ru * 64u) / (BM / 4u) * 4u;
    let a_line_$r = a_line(m0 + a_m$r);
#endif
#endunroll
#if B_ALONG_K
    let b_n = lane / (BK / 4u) * 4u;
    let b_k = lane % (BK / 4u) * 4u;
#unroll i in 0..4
    let b_line_$i = b_line(n0 + b_n + $iu);
#endunroll
#else
    let b_n = lane % (BN / 4u) * 4u;
    let b_k = lane / (BN / 4u) * 4u;
    let b_line_ = b_line(n0 + b_n);
#endif

    // Row and column of this invocation's tiles, in units of vec4.
    let row = lane / (BN / 8u);
    let column = lane % (BN / 8u);
#unroll i in 0..8
    var sum_$i_0 = vec4<f32>(0.0);
    var sum_$i_1 = vec4<f32>(0.0);
#endunroll

    for (var kb = 0u; kb < k_end; kb += BK) {
#unroll r in 0..A_PASSES
#if A_ALONG_K
        let a_$r = transpose(mat4x4<f32>(
            load_a(a_line_$r_0, kb, a_k$r),
            load_a(a_line_$r_1, kb, a_k$r),
            load_a(a_line_$r_2, kb, a_k$r),
            load_a(a_line_$r_3, kb, a_k$r),
        ));
#else
        let a_$r = mat4x4<f32>(
            load_a(a_line_$r, kb, a_k$r),
            load_a(a_line_$r, kb, a_k$r + 1u),
            load_a(a_line_$r, kb, a_k$r + 2u),
            load_a(a_line_$r, kb, a_k$r + 3u),
        );
#endif
#unroll i in 0..4
        a_block[((a_k$r + $iu) * BM + a_m$r) / 4u] = a_$r[$i];
#endunroll
#endunroll
        if lane < B_BLOCKS {
#if B_ALONG_K
            let b = transpose(mat4x4<f32>(
                load_b(b_line_0, kb, b_k),
                load_b(b_line_1, kb, b_k),
                load_b(b_line_2, kb, b_k),
                load_b(b_line_3, kb, b_k),
            ));
#else
            let b = mat4x4<f32>(
                load_b(b_line_, kb, b_k),
                load_b(b_line_, kb, b_k + 1u),
                load_b(b_line_, kb, b_k + 2u),
                load_b(b_line_, kb, b_k + 3u),
            );
#endif
#unroll i in 0..4
            b_block[((b_k + $iu) * BN + b_n) / 4u] = b[$i];
#endunroll
        }
        workgroupBarrier();
        for (var k = 0u; k < BK; k++) {
            let upper = a_block[k * (BM / 4u) + row];
            let lower = a_block[k * (BM / 4u) + BM / 8u + row];
            let left = b_block[k * (BN / 4u) + column];
            let right = b_block[k * (BN / 4u) + BN / 8u + column];
#unroll i in 0..4
            sum_$i_0 += upper[$i] * left;
            sum_$i_1 += upper[$i] * right;
#endunroll
#unroll i in 4..8
            sum_$i_0 += lower[$i - 4] * left;
            sum_$i_1 += lower[$i - 4] * right;
#endunroll
        }
        workgroupBarrier();
    }
#unroll i in 0..4
    store(m0 + row * 4u + $iu, n0 + column * 4u, sum_$i_0);
    store(m0 + row * 4u + $iu, n0 + BN / 2u + column * 4u, sum_$i_1);
#endunroll
#unroll i in 4..8
    store(m0 + BM / 2u + row * 4u + $iu - 4u, n0 + column * 4u, sum_$i_0);
    store(m0 + BM / 2u + row * 4u + $iu - 4u, n0 + BN / 2u + column * 4u, sum_$i_1);
#endunroll
}
