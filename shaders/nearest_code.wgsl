// idx[n] = argmin_k |e_k|^2 - 2 z_n . e_k, the lowest index winning ties; d2[n] = |z_n - e_idx|^2;
// margin[n] = second best - best of the criterion. |z|^2 is the same for every k and drops out.
// COSINE: z and e stand for z / |z| and e / |e|, and the criterion is -2 z . e.
//
// A matrix product whose 64 x 64 tiles of scores never leave the registers: a workgroup takes 64
// rows and walks the codebook 64 codes at a time; an invocation holds 4 ROW_QUADS rows x 4
// CODE_QUADS codes of the product, and for each of its rows a running (best, index, second).
#import nearest_best

// Tiles transposed to [channel][row / 4], so that a vec4 is 4 rows (codes) of one channel. 17, not
// 16: invocations that store neighbouring channels meet different memory banks.
const PITCH: u32 = 17u;
const TILE: u32 = 64u;
const TX: u32 = 16u / CODE_QUADS;  // invocations that share a row
const TY: u32 = 16u / ROW_QUADS;
const WG: u32 = TX * TY;
var<workgroup> z_tile: array<vec4<f32>, CHUNK * PITCH>;
var<workgroup> e_tile: array<vec4<f32>, CHUNK * PITCH>;

// The better of two disjoint sets of codes.
fn merge(a: Best, b: Best) -> Best {
    let swap = b.value < a.value || (b.value == a.value && b.index < a.index);
    let value = select(a.value, b.value, swap);
    let index = select(a.index, b.index, swap);
#if MARGIN
    let loser = select(b.value, a.value, swap);
    return Best(value, min(loser, min(a.second, b.second)), index);
#else
    return Best(value, FAR, index);
#endif
}

var<workgroup> values: array<f32, WG>;
#if MARGIN
var<workgroup> seconds: array<f32, WG>;
#endif
var<workgroup> indices: array<u32, WG>;

// One channel of a row or code, zero past the last.
fn z_at(row: u32, channel: u32) -> f32 {
    let at = min(row, dims.n - 1u) * D + channel;
#if VEC4
    return select(0.0, z[at / 4u][at % 4u], channel < D);
#else
    return select(0.0, z[at], channel < D);
#endif
}
fn e_at(code: u32, channel: u32) -> f32 {
    let at = min(code, dims.k - 1u) * D + channel;
#if VEC4
    return select(0.0, codebook[at / 4u][at % 4u], channel < D);
#else
    return select(0.0, codebook[at], channel < D);
#endif
}

// Of CHUNK channels of 64 rows or codes, one invocation stages 4 rows at a time: as many channels of
// them as one load brings.
#if VEC4
const LOADED: u32 = 4u;
fn z_quad(row: u32, x: u32) -> vec4<f32> {
    return select(vec4<f32>(0.0), z[min(row, dims.n - 1u) * (D / 4u) + x], x < D / 4u);
}
fn e_quad(code: u32, x: u32) -> vec4<f32> {
    return select(vec4<f32>(0.0), codebook[min(code, dims.k - 1u) * (D / 4u) + x], x < D / 4u);
}
#else
const LOADED: u32 = 1u;
#endif
const PIECES: u32 = CHUNK / LOADED * 16u;

// Piece `i` of a tile, from channel `first` on.
fn stage_z(first_row: u32, first: u32, i: u32) {
    let x = i % (CHUNK / LOADED);
    let quad = i / (CHUNK / LOADED);
    let row = first_row + 4u * quad;
    let at = x * LOADED * PITCH + quad;
#if VEC4
    let column = first / 4u + x;
    let channels = transpose(mat4x4<f32>(
        z_quad(row, column),
        z_quad(row + 1u, column),
        z_quad(row + 2u, column),
        z_quad(row + 3u, column),
    ));
#unroll c in 0..4
    z_tile[at + $cu * PITCH] = channels[$c];
#endunroll
#else
    z_tile[at] = vec4<f32>(
        z_at(row, first + x),
        z_at(row + 1u, first + x),
        z_at(row + 2u, first + x),
        z_at(row + 3u, first + x),
    );
#endif
}
fn stage_e(first_code: u32, first: u32, i: u32) {
    let x = i % (CHUNK / LOADED);
    let quad = i / (CHUNK / LOADED);
    let code = first_code + 4u * quad;
    let at = x * LOADED * PITCH + quad;
#if VEC4
    let column = first / 4u + x;
    let channels = transpose(mat4x4<f32>(
        e_quad(code, column),
        e_quad(code + 1u, column),
        e_quad(code + 2u, column),
        e_quad(code + 3u, column),
    ));
#unroll c in 0..4
    e_tile[at + $cu * PITCH] = channels[$c];
#endunroll
#else
    e_tile[at] = vec4<f32>(
        e_at(code, first + x),
        e_at(code + 1u, first + x),
        e_at(code + 2u, first + x),
        e_at(code + 3u, first + x),
    );
#endif
}

// Merges the TX candidates of a row, adds up the winner's distance and writes the outputs.
fn finish(candidate: Best, row: u32, tx: u32, lane: u32) {
    values[lane] = candidate.value;
#if MARGIN
    seconds[lane] = candidate.second;
#endif
    indices[lane] = candidate.index;
    workgroupBarrier();
    var best = candidate;
    for (var other = 0u; other < TX; other++) {
        let i = lane - tx + other;
        if other != tx {
#if MARGIN
            best = merge(best, Best(values[i], seconds[i], indices[i]));
#else
            best = merge(best, Best(values[i], FAR, indices[i]));
#endif
        }
    }
    workgroupBarrier();
#if COSINE
    var z_square = 0.0;
    var e_square = 0.0;
    for (var channel = 0u; channel < D; channel++) {
        z_square += z_at(row, channel) * z_at(row, channel);
        e_square += e_at(best.index, channel) * e_at(best.index, channel);
    }
    let of_z = inverse_length(z_square);
    let of_e = inverse_length(e_square);
#else
    let of_z = 1.0;
#endif
    var sum = 0.0;
    for (var channel = tx; channel < D; channel += TX) {
#if COSINE
        let difference = of_z * z_at(row, channel) - of_e * e_at(best.index, channel);
#else
        let difference = z_at(row, channel) - e_at(best.index, channel);
#endif
        sum += difference * difference;
    }
    values[lane] = sum;
    workgroupBarrier();
    if tx == 0u && row < dims.n {
        for (var other = 1u; other < TX; other++) {
            sum += values[lane + other];
        }
        // The scores were taken with z as it is.
        write_row(row, best, sum, of_z);
    }
    workgroupBarrier();
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first_row = flat_group(group, groups) * TILE;
    // Of the tile's quads of codes this invocation has tx, tx + TX, ..; of rows ty, ty + TY, ..
    let tx = lane % TX;
    let ty = lane / TX;
#unroll q in 0..ROW_QUADS
#unroll r in 0..4
    var best$q_$r = Best(FAR, FAR, 0u);
#endunroll
#endunroll

    for (var first_code = 0u; first_code < dims.k; first_code += TILE) {
#unroll v in 0..CODE_QUADS
        var norm$v = vec4<f32>(0.0);
#unroll q in 0..ROW_QUADS
#unroll r in 0..4
        var dot$q_$r_$v = vec4<f32>(0.0);
#endunroll
#endunroll
#endunroll
        for (var first = 0u; first < D; first += CHUNK) {
            // Rows of a single chunk stay staged.
            if D > CHUNK || first_code == 0u {
                for (var i = lane; i < PIECES; i += WG) {
                    stage_z(first_row, first, i);
                }
            }
            for (var i = lane; i < PIECES; i += WG) {
                stage_e(first_code, first, i);
            }
            workgroupBarrier();
            for (var channel = 0u; channel < CHUNK; channel++) {
#unroll v in 0..CODE_QUADS
                let e$v = e_tile[channel * PITCH + tx + $vu * TX];
                norm$v += e$v * e$v;
#endunroll
#unroll q in 0..ROW_QUADS
                let rows$q = z_tile[channel * PITCH + ty + $qu * TY];
#unroll r in 0..4
#unroll v in 0..CODE_QUADS
                dot$q_$r_$v += rows$q[$r] * e$v;
#endunroll
#endunroll
#endunroll
            }
            workgroupBarrier();
        }
#unroll v in 0..CODE_QUADS
        let code$v = first_code + 4u * (tx + $vu * TX);
#unroll c in 0..4
        if code$v + $cu < dims.k && norm$v[$c] < FAR {
#if COSINE
            let factor = -2.0 * inverse_length(norm$v[$c]);
#endif
#unroll q in 0..ROW_QUADS
#unroll r in 0..4
#if COSINE
            let score$q_$r = factor * dot$q_$r_$v[$c];
#else
            let score$q_$r = norm$v[$c] - 2.0 * dot$q_$r_$v[$c];
#endif
            best$q_$r = keep(best$q_$r, score$q_$r, code$v + $cu);
#endunroll
#endunroll
        }
#endunroll
#endunroll
    }

    // The TX invocations of a row agree on its winner and share the sum of its distance.
#unroll q in 0..ROW_QUADS
#unroll r in 0..4
    finish(best$q_$r, first_row + 4u * (ty + $qu * TY) + $ru, tx, lane);
#endunroll
#endunroll
}
