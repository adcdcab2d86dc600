// What the nearest-code shaders share: the bindings, the running minimum of a row, and what is
// written of it. z and codebook hold vec4s where the kernel says VEC4, else scalars.
#import flat

#if VEC4
alias Element = vec4<f32>;
#else
alias Element = f32;
#endif

struct Dims { n: u32, k: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> z: array<Element>;
@group(0) @binding(1) var<storage, read> codebook: array<Element>;
@group(0) @binding(2) var<storage, read_write> idx: array<u32>;
@group(0) @binding(3) var<storage, read_write> d2: array<f32>;
#if MARGIN
@group(0) @binding(4) var<storage, read_write> margin: array<f32>;
#endif

// No score yet; also the margin of a codebook of one, and what |e|^2 of a code that may be chosen
// stays below.
const FAR: f32 = 3e38;

#if COSINE
// 1 / |x|: lengths below 1e-12 count as it, and a vector too long for f32 counts as zero.
fn inverse_length(square: f32) -> f32 {
    return select(0.0, 1.0 / max(sqrt(square), 1e-12), square < FAR);
}
#endif

// `second` is the second best value; FAR where no margin is asked for.
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

// `distance` is that of the best code; `scale` takes scores to the unit of the criterion.
fn write_row(row: u32, best: Best, distance: f32, scale: f32) {
    // A NaN has its exponent set and a mantissa; WGSL may assume that comparisons see none.
    let nan = (bitcast<u32>(distance) & 0x7fffffffu) > 0x7f800000u;
    idx[row] = select(best.index, 0u, nan);
    d2[row] = distance;
#if MARGIN
    margin[row] = select(FAR, scale * (best.second - best.value), best.second < FAR);
#endif
}
