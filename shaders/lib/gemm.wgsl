// The block of `gemm_block` by WG invocations.
//
// Blocks of both operands are staged in workgroup memory; every invocation keeps the sums of ROWS4
// times COLUMNS4 tiles of 4 x 4 in registers. Its tiles lie a whole fraction of the block apart, so
// that neighbours read neighbouring vec4s.
const A_PITCH: u32 = BM / 4u + PAD;
const B_PITCH: u32 = BN / 4u + PAD;
var<workgroup> a_block: array<vec4<f32>, A_PITCH * BK>;  // [k][m / 4]
var<workgroup> b_block: array<vec4<f32>, B_PITCH * BK>;  // [k][n / 4]

fn gemm_block(m0: u32, n0: u32, k_end: u32, place: Place) {
    let lane = place.lane;
    // The 4 x 4 elements of each operand that this invocation stages: their corner in the block.
    // With invocations to spare, others stage b than a.
    let b_lane = (lane + WG - B_SHIFT) % WG;
#unroll r in 0..A_PASSES
#if A_ALONG_K
    let a_m$r = (lane + $ru * WG) / (BK / 4u) * 4u;
    let a_k$r = (lane + $ru * WG) % (BK / 4u) * 4u;
#unroll i in 0..4
    let a_line_$r_$i = a_line(m0 + a_m$r + $iu);
#endunroll
#else
    let a_m$r = (lane + $ru * WG) % (BM / 4u) * 4u;
    let a_k$r = (lane + $ru * WG) / (BM / 4u) * 4u;
    let a_line_$r = a_line(m0 + a_m$r);
#endif
#endunroll
#unroll r in 0..B_PASSES
#if B_ALONG_K
    let b_n$r = (b_lane + $ru * WG) / (BK / 4u) * 4u;
    let b_k$r = (b_lane + $ru * WG) % (BK / 4u) * 4u;
#unroll i in 0..4
    let b_line_$r_$i = b_line(n0 + b_n$r + $iu);
#endunroll
#else
    let b_n$r = (b_lane + $ru * WG) % (BN / 4u) * 4u;
    let b_k$r = (b_lane + $ru * WG) / (BN / 4u) * 4u;
    let b_line_$r = b_line(n0 + b_n$r);
#endif
#endunroll

    // Row and column of this invocation's first tile, and their distances, in units of vec4.
    let row = lane / (BN / 4u / COLUMNS4);
    let column = lane % (BN / 4u / COLUMNS4);
    const ROW_STEP = BM / 4u / ROWS4;
    const COLUMN_STEP = BN / 4u / COLUMNS4;
#unroll q in 0..ROWS4
#unroll c in 0..COLUMNS4
#unroll i in 0..4
    var sum_$q_$c_$i = vec4<f32>(0.0);
#endunroll
#endunroll
#endunroll

    for (var kb = 0u; kb < k_end; kb += BK) {
#unroll r in 0..A_PASSES
#if A_PARTIAL
        if lane + $ru * WG < A_BLOCKS {
#endif
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
        a_block[(a_k$r + $iu) * A_PITCH + a_m$r / 4u] = a_$r[$i];
#endunroll
#if A_PARTIAL
        }
#endif
#endunroll
#unroll r in 0..B_PASSES
#if B_PARTIAL
        if b_lane + $ru * WG < B_BLOCKS {
#endif
#if B_ALONG_K
        let b_$r = transpose(mat4x4<f32>(
            load_b(b_line_$r_0, kb, b_k$r),
            load_b(b_line_$r_1, kb, b_k$r),
            load_b(b_line_$r_2, kb, b_k$r),
            load_b(b_line_$r_3, kb, b_k$r),
        ));
#else
        let b_$r = mat4x4<f32>(
            load_b(b_line_$r, kb, b_k$r),
            load_b(b_line_$r, kb, b_k$r + 1u),
            load_b(b_line_$r, kb, b_k$r + 2u),
            load_b(b_line_$r, kb, b_k$r + 3u),
        );
#endif
#unroll i in 0..4
        b_block[(b_k$r + $iu) * B_PITCH + b_n$r / 4u] = b_$r[$i];
#endunroll
#if B_PARTIAL
        }
#endif
#endunroll
        workgroupBarrier();
        for (var k = 0u; k < BK; k++) {
#unroll c in 0..COLUMNS4
            let right_$c = b_block[k * B_PITCH + $cu * COLUMN_STEP + column];
#endunroll
#unroll q in 0..ROWS4
            let left_$q = a_block[k * A_PITCH + $qu * ROW_STEP + row];
#unroll i in 0..4
#unroll c in 0..COLUMNS4
            sum_$q_$c_$i += left_$q[$i] * right_$c;
#endunroll
#endunroll
#endunroll
        }
        workgroupBarrier();
    }
#unroll q in 0..ROWS4
#unroll i in 0..4
#unroll c in 0..COLUMNS4
    store(
        m0 + ($qu * ROW_STEP + row) * 4u + $iu,
        n0 + ($cu * COLUMN_STEP + column) * 4u,
        sum_$q_$c_$i,
    );
#endunroll
#endunroll
#endunroll
}
