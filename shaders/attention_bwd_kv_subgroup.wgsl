// dk and dv of RUNS WG keys of one head a workgroup, as in `attention_bwd_kv`: with
// p = exp(scale q k' - lse) and dp = dy v', dv = p' dy, dk = scale (p (dp - delta))' q.
#import attention_lanes

struct Dims { lq: u32, lk: u32, heads: u32, scale: f32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> q: array<Element>;
@group(0) @binding(1) var<storage, read> k: array<Element>;
@group(0) @binding(2) var<storage, read> v: array<Element>;
@group(0) @binding(3) var<storage, read> dy: array<Element>;
@group(0) @binding(4) var<storage, read> lse: array<f32>;
@group(0) @binding(5) var<storage, read> delta: array<f32>;
@group(0) @binding(6) var<storage, read_write> dk: array<Element>;
@group(0) @binding(7) var<storage, read_write> dv: array<Element>;

const Q: u32 = 0u;
const K: u32 = 1u;
const V: u32 = 2u;
const DY: u32 = 3u;

fn load(source: u32, at: u32) -> Element {
    if source == Q { return q[at]; }
    if source == K { return k[at]; }
    if source == V { return v[at]; }
    return dy[at];
}

fn store4(token: u32, column: u32, key: vec4<f32>, value: vec4<f32>) {
#if VEC4
    dk[token / 4u + column] = key;
    dv[token / 4u + column] = value;
#else
#unroll i in 0..4
    if 4u * column + $iu < D {
        dk[token + 4u * column + $iu] = key[$i];
        dv[token + 4u * column + $iu] = value[$i];
    }
#endunroll
#endif
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
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
        store4(k_at$r, $xu, key_sum$r_$x * dims.scale, value_sum$r_$x);
#endunroll
    }
#endunroll
}
