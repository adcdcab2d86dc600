// The convolution of shaders/conv2d.wgsl by cooperative matrices. CIN and COUT are multiples of 4.
#import flat
#import coop_gemm

struct Dims { pixels: u32, blocks: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> w: array<vec4<f32>>;
#if BIAS
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;
#else
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
#endif

const K: u32 = KH * KW * CIN;

// Image row 0 of the pixel's sample (n H), and the window's corner (iy, ix), which padding may put
// outside the image.
alias ALine = vec3<i32>;
fn a_line(m: u32) -> ALine {
    let p = min(m, dims.pixels - 1u);
    let iy = i32(p / OW % OH * STRIDE) - i32(TOP);
    let ix = i32(p % OW * STRIDE) - i32(LEFT);
    return vec3<i32>(i32(p / (OW * OH) * H), iy, ix);
}
fn load_a(corner: ALine, kb: u32, kk: u32) -> vec4<f32> {
    let tap = (kb + kk) / CIN;
    let c = (kb + kk) % CIN;
    let iy = corner.y + i32(tap / KW);
    let ix = corner.z + i32(tap % KW);
    if tap >= KH * KW || u32(iy) >= H || u32(ix) >= W {
        return vec4<f32>(0.0);
    }
    return x[(u32((corner.x + iy) * i32(W) + ix) * CIN + c) / 4u];
}

alias BLine = u32;
fn b_line(n: u32) -> BLine { return min(n, COUT - 4u); }
fn load_b(n: BLine, kb: u32, kk: u32) -> vec4<f32> {
    let k = kb + kk;
    if k >= K {
        return vec4<f32>(0.0);
    }
    return w[(k * COUT + n) / 4u];
}

fn store(m: u32, n: u32, sum: vec4<f32>) {
    if m >= dims.pixels || n >= COUT {
        return;
    }
#if BIAS
    y[(m * COUT + n) / 4u] = sum + bias[n / 4u];
#else
    y[(m * COUT + n) / 4u] = sum;
#endif
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    entered: Subgroup,
) {
    subgroup = entered;
    let block = flat_group(group, groups);
    if block < dims.blocks {
        let column_blocks = (COUT + BN - 1u) / BN;
        coop_gemm(block / column_blocks * BM, block % column_blocks * BN, K, lane);
    }
}
