// y[p, co] = sum_{ky, kx, ci} x[window of pixel p][ky, kx, ci] w[ky, kx, ci, co] + bias[co]: a matrix
// product whose left operand, one row per output pixel, is gathered from x while it is staged.
#import flat
#import product_output

struct Dims { pixels: u32, blocks: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
#if X_VEC4
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
#else
@group(0) @binding(0) var<storage, read> x: array<f32>;
#endif
#if Y_VEC4
@group(0) @binding(1) var<storage, read> w: array<vec4<f32>>;
#else
@group(0) @binding(1) var<storage, read> w: array<f32>;
#endif

const N: u32 = COUT;
const K: u32 = KH * KW * CIN;

// Image row 0 of the pixel's sample (n H), and the window's corner (iy, ix), which padding may put
// outside the image.
alias ALine = vec3<i32>;
fn a_line(m: u32) -> ALine {
    let p = min(m, dims.pixels - 1u);
    let ox = p % OW;
    let oy = p / OW % OH;
    let n = p / (OW * OH);
    return vec3<i32>(
        i32(n * H),
        i32(oy * STRIDE) - i32(TOP),
        i32(ox * STRIDE) - i32(LEFT),
    );
}

#if X_VEC4
fn load_a(corner: ALine, kb: u32, kk: u32) -> vec4<f32> {
#if WHOLE_TAPS
    // BK divides CIN: the tap is the same in the whole workgroup.
    let tap = kb / CIN;
    let c = kb % CIN + kk;
#else
    let tap = (kb + kk) / CIN;
    let c = (kb + kk) % CIN;
#endif
    let iy = corner.y + i32(tap / KW);
    let ix = corner.z + i32(tap % KW);
#if K_TAIL
    let inside = (u32(iy) < H) & (u32(ix) < W) & (tap < KH * KW);
#else
    let inside = (u32(iy) < H) & (u32(ix) < W);
#endif
    var v = vec4<f32>(0.0);
    if inside {
        v = x[(u32((corner.x + iy) * i32(W) + ix) * CIN + c) / 4u];
    }
    return v;
}
#else
// One return: compilers that inline an early one, as SwiftShader's, take minutes for 32 of them.
fn element(corner: ALine, k: u32) -> f32 {
    let tap = k / CIN;
    let iy = corner.y + i32(tap / KW);
    let ix = corner.z + i32(tap % KW);
#if K_TAIL
    let inside = (u32(iy) < H) & (u32(ix) < W) & (tap < KH * KW);
#else
    let inside = (u32(iy) < H) & (u32(ix) < W);
#endif
    var v = 0.0;
    if inside {
        v = x[u32((corner.x + iy) * i32(W) + ix) * CIN + k % CIN];
    }
    return v;
}
fn load_a(corner: ALine, kb: u32, kk: u32) -> vec4<f32> {
    let k = kb + kk;
    return vec4<f32>(
        element(corner, k),
        element(corner, k + 1u),
        element(corner, k + 2u),
        element(corner, k + 3u),
    );
}
#endif

alias BLine = u32;
fn b_line(n: u32) -> BLine {
    return n;
}
fn load_b(n: BLine, kb: u32, kk: u32) -> vec4<f32> {
    let k = kb + kk;
#if K_TAIL
    if k >= K {
        return vec4<f32>(0.0);
    }
#endif
#if Y_VEC4
    return w[(k * COUT + min(n, COUT - 4u)) / 4u];
#else
    var v: vec4<f32>;
#unroll i in 0..4
    v[$i] = w[k * COUT + min(n + $iu, COUT - 1u)];
#endunroll
    return v;
#endif
}

fn store(m: u32, n: u32, v: vec4<f32>) {
    if m < dims.pixels {
        put(m * N, n, v);
    }
}

#import gemm_block

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    place: Place,
) {
    let block = flat_group(group, groups);
    if block < dims.blocks {
        let column_blocks = (COUT + BN - 1u) / BN;
        gemm_block(block / column_blocks * BM, block % column_blocks * BN, K, place);
    }
}
