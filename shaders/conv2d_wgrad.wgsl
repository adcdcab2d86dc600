// partials[s, (ky, kx, ci), co] = sum over the output pixels p of chunk s of
// x[window of p][ky, kx, ci] dy[p, co]: a matrix product over pixels, split into chunks so that there
// are enough workgroups; sum_partials adds the chunks in order.
#import flat

struct Dims { pixels: u32, chunk: u32, blocks: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
#if X_VEC4
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
#else
@group(0) @binding(0) var<storage, read> x: array<f32>;
#endif
#if DY_VEC4
alias Columns = vec4<f32>;
#else
alias Columns = f32;
#endif
@group(0) @binding(1) var<storage, read> dy: array<Columns>;
@group(0) @binding(2) var<storage, read_write> partials: array<Columns>;

const WINDOW: u32 = KH * KW * CIN;

// This workgroup's chunk and its pixels.
var<private> split: u32;
var<private> first: u32;
var<private> end: u32;

// The sample's first image row (n H) and the corner of the pixel's window.
fn corner(p: u32) -> vec3<i32> {
    return vec3<i32>(
        i32(p / (OW * OH) * H),
        i32(p / OW % OH * STRIDE) - i32(TOP),
        i32(p % OW * STRIDE) - i32(LEFT),
    );
}

// Offset in x of element m of the window at `corner`, or NONE outside the image.
const NONE: u32 = 0xffffffffu;
fn x_offset(corner: vec3<i32>, m: u32) -> u32 {
    let tap = m / CIN;
    let iy = corner.y + i32(tap / KW);
    let ix = corner.z + i32(tap % KW);
    // One return: some compilers take minutes over many inlined early ones.
    let at = u32((corner.x + iy) * i32(W) + ix) * CIN + m % CIN;
    return select(NONE, at, u32(iy) < H && u32(ix) < W);
}

// Index of the first of four window elements.
alias ALine = u32;
fn a_line(m: u32) -> ALine {
    return m;
}
fn load_a(m: ALine, kb: u32, kk: u32) -> vec4<f32> {
    let p = first + kb + kk;
    var v = vec4<f32>(0.0);
    if p >= end {
        return v;
    }
    let corner = corner(p);
#if X_VEC4
    let at = x_offset(corner, min(m, WINDOW - 4u));
    if at != NONE {
        v = x[at / 4u];
    }
#else
#unroll i in 0..4
    let at$i = x_offset(corner, min(m + $iu, WINDOW - 1u));
    if at$i != NONE {
        v[$i] = x[at$i];
    }
#endunroll
#endif
    return v;
}

alias BLine = u32;
fn b_line(n: u32) -> BLine {
    return n;
}
fn load_b(n: BLine, kb: u32, kk: u32) -> vec4<f32> {
    let p = first + kb + kk;
    if p >= end {
        return vec4<f32>(0.0);
    }
#if DY_VEC4
    return dy[(p * COUT + min(n, COUT - 4u)) / 4u];
#else
    var v: vec4<f32>;
#unroll i in 0..4
    v[$i] = dy[p * COUT + min(n + $iu, COUT - 1u)];
#endunroll
    return v;
#endif
}

fn store(m: u32, n: u32, v: vec4<f32>) {
    if m >= WINDOW {
        return;
    }
    let at = (split * WINDOW + m) * COUT + n;
#if DY_VEC4
    if n < COUT {
        partials[at / 4u] = v;
    }
#else
#unroll i in 0..4
    if n + $iu < COUT {
        partials[at + $iu] = v[$i];
    }
#endunroll
#endif
}

#import gemm_block

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    place: Place,
) {
    let flat = flat_group(group, groups);
    let row_blocks = (WINDOW + BM - 1u) / BM;
    let column_blocks = (COUT + BN - 1u) / BN;
    if flat < dims.blocks {
        let block = flat % (row_blocks * column_blocks);
        split = flat / (row_blocks * column_blocks);
        // Chunks past the last pixel are empty.
        first = min(split * dims.chunk, dims.pixels);
        end = min(first + dims.chunk, dims.pixels);
        gemm_block(block / column_blocks * BM, block % column_blocks * BN, end - first, place);
    }
}
