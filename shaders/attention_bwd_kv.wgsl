// dk and dv of ROWS keys of one head a workgroup: the rows of the tile are keys, the columns
// queries. With p = exp(scale q k' - lse) and dp = dy v':
// dv = p' dy, dk = scale (p (dp - delta))' q.
#import attention_tile

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
    if column < D4 {
#if VEC4
        dk[token / 4u + column] = key;
        dv[token / 4u + column] = value;
#else
        for (var i = 0u; i < 4u; i++) {
            if 4u * column + i < D {
                dk[token + 4u * column + i] = key[i];
                dv[token + 4u * column + i] = value[i];
            }
        }
#endif
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let ty = lane / 8u;
    let tx = lane % 8u;
    let width = dims.heads * D;
    let first_key = group.x * ROWS;
    let q_base = group.z * dims.lq * width + group.y * D;
    let k_base = group.z * dims.lk * width + group.y * D;
    let stat_base = (group.z * dims.heads + group.y) * dims.lq;
#unroll chunk in 0..CHUNKS
    var key$chunk = zero_rows();
    var value$chunk = zero_rows();
#endunroll
    for (var first = 0u; first < dims.lq; first += TILE) {
        var s = zero_rows();
        for (var chunk = 0u; chunk < CHUNKS; chunk++) {
            stage_rows(K, k_base, first_key, dims.lk, width, chunk, lane);
            stage_columns(Q, q_base, first, dims.lq, width, chunk, lane);
            workgroupBarrier();
            s = add_products(s, ty, tx);
            workgroupBarrier();
        }
        var dp = zero_rows();
        for (var chunk = 0u; chunk < CHUNKS; chunk++) {
            stage_rows(V, k_base, first_key, dims.lk, width, chunk, lane);
            stage_columns(DY, q_base, first, dims.lq, width, chunk, lane);
            workgroupBarrier();
            dp = add_products(dp, ty, tx);
            workgroupBarrier();
        }
        let columns = vec4<u32>(first + tx) + vec4<u32>(0u, 8u, 16u, 24u);
        let valid = columns < vec4<u32>(dims.lq);
        let at = stat_base + min(columns, vec4<u32>(dims.lq - 1u));
        let column_lse = vec4<f32>(lse[at.x], lse[at.y], lse[at.z], lse[at.w]);
        let column_delta = vec4<f32>(delta[at.x], delta[at.y], delta[at.z], delta[at.w]);
#unroll r in 0..4
        s.r$r = select(vec4<f32>(0.0), exp(s.r$r * dims.scale - column_lse), valid);
        dp.r$r = s.r$r * (dp.r$r - column_delta);
#endunroll
        stage_scores(s, ty, tx);
#unroll chunk in 0..CHUNKS
#if CHUNKS > 1
        stage_columns(DY, q_base, first, dims.lq, width, $chunku, lane);
#endif
        workgroupBarrier();
        value$chunk = add_mixture(value$chunk, ty, tx);
        workgroupBarrier();
#endunroll
        stage_scores(dp, ty, tx);
#unroll chunk in 0..CHUNKS
        stage_columns(Q, q_base, first, dims.lq, width, $chunku, lane);
        workgroupBarrier();
        key$chunk = add_mixture(key$chunk, ty, tx);
        workgroupBarrier();
#endunroll
    }
#unroll r in 0..4
    let token$r = first_key + 4u * ty + $ru;
    if token$r < dims.lk && tx < CHUNK4 {
#unroll chunk in 0..CHUNKS
        store4(
            k_base + token$r * width,
            $chunku * CHUNK4 + tx,
            key$chunk.r$r * dims.scale,
            value$chunk.r$r,
        );
#endunroll
    }
#endunroll
}
