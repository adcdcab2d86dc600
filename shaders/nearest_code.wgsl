// idx[n] = argmin_k |e_k|^2 - 2 z_n . e_k, the lowest index winning ties; d2[n] = |z_n - e_idx|^2;
// margin[n] = second best - best of the criterion. |z|^2 is the same for every k and drops out.
// COSINE: z and e stand for z / |z| and e / |e|, and the criterion is -2 z . e.
//
// A matrix product whose 64 x 64 tiles of scores never leave the registers: a workgroup takes 64
// rows and walks the codebook 64 codes at a time; an invocation holds 4 ROW_QUADS rows x 4
// CODE_QUADS codes of the product, and for each of its rows a running (best, index, second).
#import flat

struct Dims { n: u32, k: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> z: array<f32>;
@group(0) @binding(1) var<storage, read> codebook: array<f32>;
@group(0) @binding(2) var<storage, read_write> idx: array<u32>;
@group(0) @binding(3) var<storage, read_write> d2: array<f32>;
#if MARGIN
@group(0) @binding(4) var<storage, read_write> margin: array<f32>;
#endif

// Tiles transposed to [channel][row / 4], so that a vec4 is 4 rows (codes) of one channel. 17, not
// 16: invocations that store neighbouring channels meet different memory banks.
const PITCH: u32 = 17u;
const TILE: u32 = 64u;
const TX: u32 = 16u / CODE_QUADS;  // invocations that share a row
const TY: u32 = 16u / ROW_QUADS;
const WG: u32 = TX * TY;
var<workgroup> z_tile: array<vec4<f32>, CHUNK * PITCH>;
var<workgroup> e_tile: array<vec4<f32>, CHUNK * PITCH>;

// No score yet; also the margin of a codebook of one.
const FAR: f32 = 3e38;

#if COSINE
// 1 / |x|: lengths below 1e-12 count as it, and a vector too long for f32 counts as zero.
fn inverse_length(square: f32) -> f32 {
    return select(0.0, 1.0 / max(sqrt(square), 1e-12), square < FAR);
}
#endif

#if MARGIN
struct Best { value: f32, second: f32, index: u32 }
#else
struct Best { value: f32, index: u32 }
#endif

// Codes come in ascending order, so `<` keeps the lowest index; a NaN is never smaller.
fn keep(best: Best, score: f32, index: u32) -> Best {
    let better = score < best.value;
#if MARGIN
    let loser = select(score, best.value, better);
    return Best(
        select(best.value, score, better),
        select(best.second, loser, loser < best.second),
        select(best.index, index, better),
    );
#else
    return Best(select(best.value, score, better), select(best.index, index, better));
#endif
}

// The better of two disjoint sets of codes.
fn merge(a: Best, b: Best) -> Best {
    let swap = b.value < a.value || (b.value == a.value && b.index < a.index);
    let value = select(a.value, b.value, swap);
    let index = select(a.index, b.index, swap);
#if MARGIN
    let loser = select(b.value, a.value, swap);
    return Best(value, min(loser, min(a.second, b.second)), index);
#else
    return Best(value, index);
#endif
}

var<workgroup> values: array<f32, WG>;
#if MARGIN
var<workgroup> seconds: array<f32, WG>;
#endif
var<workgroup> indices: array<u32, WG>;

fn z_at(row: u32, channel: u32) -> f32 {
    return select(0.0, z[min(row, dims.n - 1u) * D + channel], channel < D);
}
fn e_at(code: u32, channel: u32) -> f32 {
    return select(0.0, codebook[min(code, dims.k - 1u) * D + channel], channel < D);
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
            best = merge(best, Best(values[i], indices[i]));
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
        // A NaN has its exponent set and a mantissa; WGSL may assume that comparisons see none.
        let nan = (bitcast<u32>(sum) & 0x7fffffffu) > 0x7f800000u;
        idx[row] = select(best.index, 0u, nan);
        d2[row] = sum;
#if MARGIN
#if COSINE
        // The scores were taken with z as it is.
        margin[row] = select(FAR, of_z * (best.second - best.value), best.second < FAR);
#else
        margin[row] = select(FAR, best.second - best.value, best.second < FAR);
#endif
#endif
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
#if MARGIN
    var best$q_$r = Best(FAR, FAR, 0u);
#else
    var best$q_$r = Best(FAR, 0u);
#endif
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
            for (var i = lane; i < CHUNK * 16u; i += WG) {
                let channel = first + i % CHUNK;
                let quad = i / CHUNK;
                let row = first_row + 4u * quad;
                let code = first_code + 4u * quad;
                let at = (i % CHUNK) * PITCH + quad;
                z_tile[at] = vec4<f32>(
                    z_at(row, channel),
                    z_at(row + 1u, channel),
                    z_at(row + 2u, channel),
                    z_at(row + 3u, channel),
                );
                e_tile[at] = vec4<f32>(
                    e_at(code, channel),
                    e_at(code + 1u, channel),
                    e_at(code + 2u, channel),
                    e_at(code + 3u, channel),
                );
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
#if COSINE
        if code$v + $cu < dims.k && norm$v[$c] < FAR {
            let factor = -2.0 * inverse_length(norm$v[$c]);
#unroll q in 0..ROW_QUADS
#unroll r in 0..4
            best$q_$r = keep(best$q_$r, factor * dot$q_$r_$v[$c], code$v + $cu);
#endunroll
#endunroll
        }
#else
        if code$v + $cu < dims.k {
#unroll q in 0..ROW_QUADS
#unroll r in 0..4
            best$q_$r = keep(best$q_$r, norm$v[$c] - 2.0 * dot$q_$r_$v[$c], code$v + $cu);
#endunroll
#endunroll
        }
#endif
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
