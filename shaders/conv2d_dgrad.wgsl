// dx[n, iy, ix, ci] = sum over the taps that hit the pixel of dy[n, oy, ox, co] w[ky, kx, ci, co],
// where oy STRIDE + ky = iy + TOP and ox STRIDE + kx = ix + LEFT; with ACCUM dx += ...
//
// Pixels are taken by phase, (iy + TOP) mod STRIDE and (ix + LEFT) mod STRIDE: within one phase the
// same taps (ky = phase, phase + STRIDE, ...) hit every pixel, so none is multiplied in vain.
#import flat

struct Dims { n: u32, phase_blocks: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
#if DY_VEC4
alias Summands = vec4<f32>;
#else
alias Summands = f32;
#endif
@group(0) @binding(0) var<storage, read> dy: array<Summands>;
@group(0) @binding(1) var<storage, read> w: array<Summands>;
#if DX_VEC4
@group(0) @binding(2) var<storage, read_write> dx: array<vec4<f32>>;
#else
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;
#endif

// Pixels of a phase: at most this many rows and columns.
const QH: u32 = (H + STRIDE - 1u) / STRIDE;
const QW: u32 = (W + STRIDE - 1u) / STRIDE;

// Phase (y, x), and how many taps it has in each direction.
var<private> phase: vec2<u32>;
var<private> taps: vec2<u32>;

// Input row of the phase's q-th pixel: the first one at or after 0 with (iy + TOP) % STRIDE = phase.
fn input_y(q: u32) -> u32 {
    return (phase.x + STRIDE - TOP % STRIDE) % STRIDE + q * STRIDE;
}
fn input_x(q: u32) -> u32 {
    return (phase.y + STRIDE - LEFT % STRIDE) % STRIDE + q * STRIDE;
}

// Output row 0 of the sample (n OH), and the output pixel (oy, ox) under the phase's first tap; the
// t-th tap looks at oy - t.
alias ALine = vec3<i32>;
fn a_line(m: u32) -> ALine {
    let q = min(m, dims.n * QH * QW - 1u);
    let n = q / (QH * QW);
    return vec3<i32>(
        i32(n * OH),
        i32((input_y(q / QW % QH) + TOP) / STRIDE),
        i32((input_x(q % QW) + LEFT) / STRIDE),
    );
}

fn dy_at(line: ALine, k: u32) -> Summands {
    let t = k / COUT;
    let oy = line.y - i32(t / taps.y);
    let ox = line.z - i32(t % taps.y);
    // One return here and below: some compilers take minutes over many inlined early ones.
    var v = Summands(0.0);
    if t < taps.x * taps.y && u32(oy) < OH && u32(ox) < OW {
        let at = u32((line.x + oy) * i32(OW) + ox) * COUT + k % COUT;
#if DY_VEC4
        v = dy[at / 4u];
#else
        v = dy[at];
#endif
    }
    return v;
}
fn load_a(line: ALine, kb: u32, kk: u32) -> vec4<f32> {
    let k = kb + kk;
#if DY_VEC4
    return dy_at(line, k);
#else
    return vec4<f32>(dy_at(line, k), dy_at(line, k + 1u), dy_at(line, k + 2u), dy_at(line, k + 3u));
#endif
}

alias BLine = u32;
fn b_line(n: u32) -> BLine {
    return min(n, CIN - 1u);
}
fn w_at(ci: BLine, k: u32) -> Summands {
    let t = k / COUT;
    var v = Summands(0.0);
    if t < taps.x * taps.y {
        let ky = phase.x + t / taps.y * STRIDE;
        let kx = phase.y + t % taps.y * STRIDE;
        let at = ((ky * KW + kx) * CIN + ci) * COUT + k % COUT;
#if DY_VEC4
        v = w[at / 4u];
#else
        v = w[at];
#endif
    }
    return v;
}
fn load_b(ci: BLine, kb: u32, kk: u32) -> vec4<f32> {
    let k = kb + kk;
#if DY_VEC4
    return w_at(ci, k);
#else
    return vec4<f32>(w_at(ci, k), w_at(ci, k + 1u), w_at(ci, k + 2u), w_at(ci, k + 3u));
#endif
}

fn store(m: u32, n: u32, v: vec4<f32>) {
    let iy = input_y(m / QW % QH);
    let ix = input_x(m % QW);
    if m >= dims.n * QH * QW || iy >= H || ix >= W {
        return;
    }
    let at = ((m / (QH * QW) * H + iy) * W + ix) * CIN + n;
#if DX_VEC4
    if n < CIN {
#if ACCUM
        dx[at / 4u] += v;
#else
        dx[at / 4u] = v;
#endif
    }
#else
#unroll i in 0..4
    if n + $iu < CIN {
#if ACCUM
        dx[at + $iu] += v[$i];
#else
        dx[at + $iu] = v[$i];
#endif
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
    if flat < dims.phase_blocks * STRIDE * STRIDE {
        let p = flat / dims.phase_blocks;
        let block = flat % dims.phase_blocks;
        phase = vec2<u32>(p / STRIDE, p % STRIDE);
        // A phase past the kernel's edge (a kernel smaller than the stride) has no taps: dx = 0.
        taps = vec2<u32>(
            (max(KH, phase.x) - phase.x + STRIDE - 1u) / STRIDE,
            (max(KW, phase.y) - phase.y + STRIDE - 1u) / STRIDE,
        );
        let column_blocks = (CIN + BN - 1u) / BN;
        let k_end = taps.x * taps.y * COUT;
        gemm_block(block / column_blocks * BM, block % column_blocks * BN, k_end, place);
    }
}
