// dq of RUNS WG queries of one head a workgroup, as in `attention_bwd_q`:
// dq = scale (p (dp - delta)) k with p = exp(scale q k' - lse) and dp = dy v'.
#import attention_lanes

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let width = dims.heads * D;
    let q_base = group.z * dims.lq * width + group.y * D;
    let k_base = group.z * dims.lk * width + group.y * D;
    let stat_base = (group.z * dims.heads + group.y) * dims.lq;
#unroll r in 0..RUNS
    let query$r = (group.x * RUNS + $ru) * WG + lane;
    let row$r = min(query$r, dims.lq - 1u);
    let q_at$r = q_base + row$r * width;
    let lse$r = lse[stat_base + row$r];
    let delta$r = delta[stat_base + row$r];
#unroll x in 0..D4
    let q$r_$x = load4(Q, q_at$r, $xu);
    let dy$r_$x = load4(DY, q_at$r, $xu);
    var sum$r_$x = vec4<f32>(0.0);
#endunroll
#endunroll
    for (var first = 0u; first < dims.lk; first += WG) {
        let at = k_base + min(first + lane, dims.lk - 1u) * width;
#unroll i in 0..WG
#unroll r in 0..RUNS
        var s$r_$i = 0.0;
        var dp$r_$i = 0.0;
#endunroll
#endunroll
#unroll x in 0..D4
        let k$x = load4(K, at, $xu);
        let v$x = load4(V, at, $xu);
#unroll i in 0..WG
        let k$x_$i = subgroupBroadcast(k$x, $iu);
        let v$x_$i = subgroupBroadcast(v$x, $iu);
#unroll r in 0..RUNS
        s$r_$i += dot(q$r_$x, k$x_$i);
        dp$r_$i += dot(dy$r_$x, v$x_$i);
#endunroll
#endunroll
#endunroll
#unroll i in 0..WG
#unroll r in 0..RUNS
        s$r_$i = exp(s$r_$i * dims.scale - lse$r) * (dp$r_$i - delta$r);
        s$r_$i = select(0.0, s$r_$i, first + $iu < dims.lk);
#endunroll
#endunroll
#unroll x in 0..D4
#unroll i in 0..WG
#unroll r in 0..RUNS
        sum$r_$x += s$r_$i * k$x_$i;
#endunroll
#endunroll
#endunroll
    }
#unroll r in 0..RUNS
    if query$r < dims.lq {
#unroll x in 0..D4
        store4(DQ, q_at$r, $xu, sum$r_$x * dims.scale);
#endunroll
    }
#endunroll
}
