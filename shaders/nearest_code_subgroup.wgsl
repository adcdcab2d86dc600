// What `nearest_code` computes, by one subgroup of WG invocations, its whole workgroup, without workgroup memory or
// barriers: each owns ROWS rows and walks the whole codebook, WG GROUPS codes at a time. Of these it
// loads GROUPS itself, and broadcasts hand them round; ties, NaNs and the margin are settled within
// an invocation.
//
// HOIST: d is so small that the rows stay in registers.
#import nearest_rows

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let first_row = flat_group(group, groups) * (ROWS * WG) + lane;
#unroll r in 0..ROWS
    let row$r = min(first_row + $ru * WG, dims.n - 1u);
    var best$r = Best(FAR, FAR, 0u);
#if HOIST
#unroll x in 0..D4
    let z$r_$x = quad_of_row(row$r, $xu);
#endunroll
#endif
#endunroll

    for (var first = 0u; first < dims.k; first += WG * GROUPS) {
#unroll g in 0..GROUPS
        let own$g = first + $gu * WG + lane;
        let code$g = min(own$g, dims.k - 1u);
        var own_norm$g = 0.0;
#unroll i in 0..WG
#unroll r in 0..ROWS
        var s$r_$g_$i = 0.0;
#endunroll
#endunroll
#endunroll
#if HOIST
#unroll x in 0..D4
#unroll g in 0..GROUPS
        let e$x_$g = quad_of_code(code$g, $xu);
        own_norm$g += dot(e$x_$g, e$x_$g);
#unroll i in 0..WG
        let e$x_$g_$i = subgroupBroadcast(e$x_$g, $iu);
#unroll r in 0..ROWS
        s$r_$g_$i += dot(z$r_$x, e$x_$g_$i);
#endunroll
#endunroll
#endunroll
#endunroll
#else
        for (var x = 0u; x < D4; x++) {
#unroll r in 0..ROWS
            let z$r = quad_of_row(row$r, x);
#endunroll
#unroll g in 0..GROUPS
            let e$g = quad_of_code(code$g, x);
            own_norm$g += dot(e$g, e$g);
#unroll i in 0..WG
            let e$g_$i = subgroupBroadcast(e$g, $iu);
#unroll r in 0..ROWS
            s$r_$g_$i += dot(z$r, e$g_$i);
#endunroll
#endunroll
#endunroll
        }
#endif
#unroll g in 0..GROUPS
        let own_valid$g = select(0u, 1u, own$g < dims.k && own_norm$g < FAR);
#if COSINE
        let own_factor$g = -2.0 * inverse_length(own_norm$g);
#endif
#unroll i in 0..WG
        let valid$g_$i = subgroupBroadcast(own_valid$g, $iu) == 1u;
#if COSINE
        let factor$g_$i = subgroupBroadcast(own_factor$g, $iu);
#else
        let norm$g_$i = subgroupBroadcast(own_norm$g, $iu);
#endif
#unroll r in 0..ROWS
#if COSINE
        let score$r_$g_$i = factor$g_$i * s$r_$g_$i;
#else
        let score$r_$g_$i = norm$g_$i - 2.0 * s$r_$g_$i;
#endif
        best$r = keep(
            best$r,
            select(FAR, score$r_$g_$i, valid$g_$i),
            first + $gu * WG + $iu,
        );
#endunroll
#endunroll
#endunroll
    }
#unroll r in 0..ROWS
    if first_row + $ru * WG < dims.n {
        finish(best$r, row$r);
    }
#endunroll
}
