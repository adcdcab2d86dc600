// The block of `gemm_block` by cooperative matrices: BK summands at a time are rounded to f16 into
// workgroup memory; subgroup s of `count` owns the rows of tiles s, s + count, ... of the block and
// keeps their f32 sums in registers. An operand keeps its storage order in workgroup memory, which
// its tiles are then read by.
#import coop

// A staged line has STEP_A (STEP_B) elements; padded, so that neighbours start in different banks.
const PITCH_A: u32 = STEP_A + 8u;
const PITCH_B: u32 = STEP_B + 8u;
const RIGHT: u32 = BM * BK / STEP_A * PITCH_A;  // where b starts in `factors`

var<workgroup> subgroups: u32;

fn gemm_block(m0: u32, n0: u32, k_end: u32, place: Place) {
    let lane = place.lane;
    if lane == 0u {
        subgroups = place.subgroups;
    }
    let count = workgroupUniformLoad(&subgroups);
    // Subgroups that own one of the r-th rows of tiles: the last ones may be too few for all.
#unroll r in 0..ROWS
    let owners$r = min(count, max(BM / T, $ru * count) - $ru * count);
#endunroll

#unroll p in 0..A_PASSES
    let a_at$p = lane + $pu * WG;
    let a_in$p = a_at$p % (STEP_A / 4u) * 4u;
#if A_ALONG_K
    let a_line$p = a_line(m0 + a_at$p / (STEP_A / 4u));
#else
    let a_line$p = a_line(m0 + a_in$p);
#endif
#endunroll
#unroll p in 0..B_PASSES
    let b_at$p = lane + $pu * WG;
    let b_in$p = b_at$p % (STEP_B / 4u) * 4u;
#if B_ALONG_K
    let b_line$p = b_line(n0 + b_at$p / (STEP_B / 4u));
#else
    let b_line$p = b_line(n0 + b_in$p);
#endif
#endunroll

#unroll r in 0..ROWS
#unroll c in 0..COLUMNS
    var sum$r_$c = no_sum();
#endunroll
#endunroll
    for (var kb = 0u; kb < k_end; kb += BK) {
#unroll p in 0..A_PASSES
        if a_at$p < BM * BK / 4u {
#if A_ALONG_K
            let v = load_a(a_line$p, kb, a_in$p);
#else
            let v = load_a(a_line$p, kb, a_at$p / (STEP_A / 4u));
#endif
            stage(a_at$p / (STEP_A / 4u) * PITCH_A + a_in$p, v);
        }
#endunroll
#unroll p in 0..B_PASSES
        if b_at$p < BN * BK / 4u {
#if B_ALONG_K
            let v = load_b(b_line$p, kb, b_in$p);
#else
            let v = load_b(b_line$p, kb, b_at$p / (STEP_B / 4u));
#endif
            stage(RIGHT + b_at$p / (STEP_B / 4u) * PITCH_B + b_in$p, v);
        }
#endunroll
        workgroupBarrier();
        for (var k = 0u; k < BK; k += T) {
#unroll c in 0..COLUMNS
#if B_ALONG_K
            let right$c = right_columns(RIGHT + $cu * T * PITCH_B + k, PITCH_B);
#else
            let right$c = right_rows(RIGHT + k * PITCH_B + $cu * T, PITCH_B);
#endif
#endunroll
#unroll r in 0..ROWS
            if place.subgroup < owners$r {
                let m = (place.subgroup + $ru * count) * T;
#if A_ALONG_K
                let left = left_rows(m * PITCH_A + k, PITCH_A);
#else
                let left = left_columns(k * PITCH_A + m, PITCH_A);
#endif
#unroll c in 0..COLUMNS
                sum$r_$c = add_product(sum$r_$c, left, right$c);
#endunroll
            }
#endunroll
        }
        workgroupBarrier();
    }

    // Each owner hands over a tile at a time, and all invocations write them out.
#unroll r in 0..ROWS
    if owners$r > 0u {
#unroll c in 0..COLUMNS
        if place.subgroup < owners$r {
            store_sum(sum$r_$c, place.subgroup * T * T, T);
        }
        workgroupBarrier();
        for (var i = lane * 4u; i < owners$r * T * T; i += WG * 4u) {
            let m = m0 + (i / (T * T) + $ru * count) * T + i % (T * T) / T;
            store(m, n0 + $cu * T + i % T, tile_row(i));
        }
        workgroupBarrier();
#endunroll
    }
#endunroll
}
