// dk and dv of RUNS WG keys of one head a workgroup, as in `attention_bwd_kv`: with
// p = exp(scale q k' - lse) and dp = dy v', dv = p' dy, dk = scale (p (dp - delta))' q.
#import attention_lanes

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let width = dims.heads * D;
    let q_base = group.z * dims.lq * width + group.y * D;
    let k_base = group.z * dims.lk * width + group.y * D;
    let stat_base = (group.z * dims.heads + group.y) * dims.lq;
#unroll r in 0..RUNS
    let key$r = (group.x * RUNS + $ru) * WG + lane;
    let k_at$r = k_base + min(key$r, dims.lk - 1u) * width;
#unroll x in 0..D4
    let k$r_$x = load4(K, k_at$r, $xu);
    let v$r_$x = load4(V, k_at$r, $xu);
    var key_sum$r_$x = vec4<f32>(0.0);
    var value_sum$r_$x = vec4<f32>(0.0);
#endunroll
#endunroll
    for (var first = 0u; first < dims.lq; first += WG) {
        let query = min(first + lane, dims.lq - 1u);
        let at = q_base + query * width;
        let own_lse = lse[stat_base + query];
        let own_delta = delta[stat_base + query];
#unroll i in 0..WG
#unroll r in 0..RUNS
        var s$r_$i = 0.0;
        var dp$r_$i = 0.0;
#endunroll
#endunroll
#unroll x in 0..D4
        let q$x = load4(Q, at, $xu);
        let dy$x = load4(DY, at, $xu);
#unroll i in 0..WG
        let q$x_$i = subgroupBroadcast(q$x, $iu);
        let dy$x_$i = subgroupBroadcast(dy$x, $iu);
#unroll r in 0..RUNS
        s$r_$i += dot(k$r_$x, q$x_$i);
        dp$r_$i += dot(v$r_$x, dy$x_$i);
#endunroll
#endunroll
#endunroll
#unroll i in 0..WG
        let lse$i = subgroupBroadcast(own_lse, $iu);
        let delta$i = subgroupBroadcast(own_delta, $iu);
#unroll r in 0..RUNS
        s$r_$i = select(0.0, exp(s$r_$i * dims.scale - lse$i), first + $iu < dims.lq);
        dp$r_$i = s$r_$i * (dp$r_$i - delta$i);
#endunroll
#endunroll
#unroll x in 0..D4
#unroll i in 0..WG
#unroll r in 0..RUNS
        key_sum$r_$x += dp$r_$i * q$x_$i;
        value_sum$r_$x += s$r_$i * dy$x_$i;
#endunroll
#endunroll
#endunroll
    }
#unroll r in 0..RUNS
    if key$r < dims.lk {
#unroll x in 0..D4
        store4(DK, k_at$r, $xu, key_sum$r_$x * dims.scale);
        store4(DV, k_at$r, $xu, value_sum$r_$x);
#endunroll
    }
#endunroll
}
