// What the nearest-code variants share in which an invocation owns whole rows: bindings, the running
// minimum of a row, and its outputs. D4 is the number of vec4s that hold a row or code.
#import flat

struct Dims { n: u32, k: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
#if VEC4
alias Element = vec4<f32>;
#else
alias Element = f32;
#endif
@group(0) @binding(0) var<storage, read> z: array<Element>;
@group(0) @binding(1) var<storage, read> codebook: array<Element>;
@group(0) @binding(2) var<storage, read_write> idx: array<u32>;
@group(0) @binding(3) var<storage, read_write> d2: array<f32>;
#if MARGIN
@group(0) @binding(4) var<storage, read_write> margin: array<f32>;
#endif

const FAR: f32 = 3e38;  // no score yet; also the margin of a codebook of one

#if COSINE
fn inverse_length(square: f32) -> f32 {
    return select(0.0, 1.0 / max(sqrt(square), 1e-12), square < FAR);
}
#endif

// Channels 4 x .. 4 x + 3 of a row or code, zero past the last.
fn quad_of_row(row: u32, x: u32) -> vec4<f32> {
#if VEC4
    return z[row * (D / 4u) + x];
#else
    var v = vec4<f32>(0.0);
#unroll i in 0..4
    if 4u * x + $iu < D {
        v[$i] = z[row * D + 4u * x + $iu];
    }
#endunroll
    return v;
#endif
}
fn quad_of_code(code: u32, x: u32) -> vec4<f32> {
#if VEC4
    return codebook[code * (D / 4u) + x];
#else
    var v = vec4<f32>(0.0);
#unroll i in 0..4
    if 4u * x + $iu < D {
        v[$i] = codebook[code * D + 4u * x + $iu];
    }
#endunroll
    return v;
#endif
}

struct Best { value: f32, second: f32, index: u32 }

// Codes come in ascending order, so `<` keeps the lowest index; a NaN is never smaller.
fn keep(best: Best, score: f32, index: u32) -> Best {
    let better = score < best.value;
#if MARGIN
    let loser = select(score, best.value, better);
    let second = select(best.second, loser, loser < best.second);
#else
    let second = FAR;
#endif
    return Best(select(best.value, score, better), second, select(best.index, index, better));
}

fn finish(best: Best, row: u32) {
#if COSINE
    var z_square = 0.0;
    var e_square = 0.0;
    for (var x = 0u; x < D4; x++) {
        let of_row = quad_of_row(row, x);
        let of_code = quad_of_code(best.index, x);
        z_square += dot(of_row, of_row);
        e_square += dot(of_code, of_code);
    }
    let of_z = inverse_length(z_square);
    let of_e = inverse_length(e_square);
#endif
    var sum = 0.0;
    for (var x = 0u; x < D4; x++) {
#if COSINE
        let difference = of_z * quad_of_row(row, x) - of_e * quad_of_code(best.index, x);
#else
        let difference = quad_of_row(row, x) - quad_of_code(best.index, x);
#endif
        sum += dot(difference, difference);
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
