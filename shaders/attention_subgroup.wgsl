// y = softmax(scale q k') v for one head and RUNS WG queries a workgroup, as in `attention`: a
// running maximum and sum; lse = the logarithm of the softmax denominator.
#import attention_lanes

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let width = dims.heads * D;
    let q_base = group.z * dims.lq * width + group.y * D;
    let k_base = group.z * dims.lk * width + group.y * D;
#unroll r in 0..RUNS
    let query$r = (group.x * RUNS + $ru) * WG + lane;
    let q_at$r = q_base + min(query$r, dims.lq - 1u) * width;
    var highest$r = LOWEST;
    var mass$r = 0.0;  // sum of exp(score - highest)
#unroll x in 0..D4
    let q$r_$x = load4(Q, q_at$r, $xu);
    var result$r_$x = vec4<f32>(0.0);
#endunroll
#endunroll
    for (var first = 0u; first < dims.lk; first += WG) {
        let at = k_base + min(first + lane, dims.lk - 1u) * width;
#unroll i in 0..WG
#unroll r in 0..RUNS
        var s$r_$i = 0.0;
#endunroll
#endunroll
#unroll x in 0..D4
        let k$x = load4(K, at, $xu);
#unroll i in 0..WG
        let k$x_$i = subgroupBroadcast(k$x, $iu);
#unroll r in 0..RUNS
        s$r_$i += dot(q$r_$x, k$x_$i);
#endunroll
#endunroll
#endunroll
#unroll r in 0..RUNS
        var higher$r = highest$r;
#unroll i in 0..WG
        s$r_$i = select(LOWEST, s$r_$i * dims.scale, first + $iu < dims.lk);
        higher$r = max(higher$r, s$r_$i);
#endunroll
        let shrink$r = exp(highest$r - higher$r);
        highest$r = higher$r;
        mass$r *= shrink$r;
#unroll i in 0..WG
        s$r_$i = exp(s$r_$i - higher$r);
        mass$r += s$r_$i;
#endunroll
#endunroll
#unroll x in 0..D4
        let v$x = load4(V, at, $xu);
#unroll r in 0..RUNS
        result$r_$x *= shrink$r;
#endunroll
#unroll i in 0..WG
        let v$x_$i = subgroupBroadcast(v$x, $iu);
#unroll r in 0..RUNS
        result$r_$x += s$r_$i * v$x_$i;
#endunroll
#endunroll
#endunroll
    }
#unroll r in 0..RUNS
    if query$r < dims.lq {
        lse[(group.z * dims.heads + group.y) * dims.lq + query$r] = highest$r + log(mass$r);
#unroll x in 0..D4
        store4(Y, q_at$r, $xu, result$r_$x / mass$r);
#endunroll
    }
#endunroll
}
