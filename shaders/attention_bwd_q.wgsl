// dq of ROWS queries of one head a workgroup: dq = scale (p (dp - delta)) k with
// p = exp(scale q k' - lse) and dp = dy v'.
#import attention_tile

struct Dims { lq: u32, lk: u32, heads: u32, scale: f32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> q: array<Element>;
@group(0) @binding(1) var<storage, read> k: array<Element>;
@group(0) @binding(2) var<storage, read> v: array<Element>;
@group(0) @binding(3) var<storage, read> dy: array<Element>;
@group(0) @binding(4) var<storage, read> lse: array<f32>;
@group(0) @binding(5) var<storage, read> delta: array<f32>;
@group(0) @binding(6) var<storage, read_write> dq: array<Element>;

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

fn store4(token: u32, column: u32, value: vec4<f32>) {
    if column < D4 {
#if VEC4
        dq[token / 4u + column] = value;
#else
        for (var i = 0u; i < 4u; i++) {
            if 4u * column + i < D {
                dq[token + 4u * column + i] = value[i];
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
    let first_query = group.x * ROWS;
    let q_base = group.z * dims.lq * width + group.y * D;
    let k_base = group.z * dims.lk * width + group.y * D;
    let rows = vec4<u32>(first_query + 4u * ty) + vec4<u32>(0u, 1u, 2u, 3u);
    let at = (group.z * dims.heads + group.y) * dims.lq + min(rows, vec4<u32>(dims.lq - 1u));
    let row_lse = vec4<f32>(lse[at.x], lse[at.y], lse[at.z], lse[at.w]);
    let row_delta = vec4<f32>(delta[at.x], delta[at.y], delta[at.z], delta[at.w]);
#unroll chunk in 0..CHUNKS
    var result$chunk = zero_rows();
#endunroll
    for (var first = 0u; first < dims.lk; first += TILE) {
        var s = zero_rows();
        for (var chunk = 0u; chunk < CHUNKS; chunk++) {
            stage_rows(Q, q_base, first_query, dims.lq, width, chunk, lane);
            stage_columns(K, k_base, first, dims.lk, width, chunk, lane);
            workgroupBarrier();
            s = add_products(s, ty, tx);
            workgroupBarrier();
        }
        var dp = zero_rows();
        for (var chunk = 0u; chunk < CHUNKS; chunk++) {
            stage_rows(DY, q_base, first_query, dims.lq, width, chunk, lane);
            stage_columns(V, k_base, first, dims.lk, width, chunk, lane);
            workgroupBarrier();
            dp = add_products(dp, ty, tx);
            workgroupBarrier();
        }
        let columns = vec4<u32>(first + tx) + vec4<u32>(0u, 8u, 16u, 24u);
        let valid = columns < vec4<u32>(dims.lk);
#unroll r in 0..4
        let p$r = exp(s.r$r * dims.scale - vec4<f32>(row_lse[$r]));
        dp.r$r = select(vec4<f32>(0.0), p$r * (dp.r$r - vec4<f32>(row_delta[$r])), valid);
#endunroll
        stage_scores(dp, ty, tx);
#unroll chunk in 0..CHUNKS
        stage_columns(K, k_base, first, dims.lk, width, $chunku, lane);
        workgroupBarrier();
        result$chunk = add_mixture(result$chunk, ty, tx);
        workgroupBarrier();
#endunroll
    }
#unroll r in 0..4
    if rows[$r] < dims.lq && tx < CHUNK4 {
#unroll chunk in 0..CHUNKS
        store4(
            q_base + rows[$r] * width,
            $chunku * CHUNK4 + tx,
            result$chunk.r$r * dims.scale,
        );
#endunroll
    }
#endunroll
}
