// y[b, m, n] = act(sum_k a[b, m, k] w[b, k, n] + bias[n]), or with ACCUM y += ...
// TA: a is stored [b, k, m]; TB: w is stored [b, n, k]. BATCHED_B: one w per batch entry.
#import flat
#import product_output

struct Dims { m: u32, row_blocks: u32, blocks: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
#if A_VEC4
@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
#else
@group(0) @binding(0) var<storage, read> a: array<f32>;
#endif
#if B_VEC4
@group(0) @binding(1) var<storage, read> w: array<vec4<f32>>;
#else
@group(0) @binding(1) var<storage, read> w: array<f32>;
#endif
var<private> batch: u32;

// A line along k is the offset of its first element; across k, the index of its first row or column.
alias ALine = u32;
alias BLine = u32;

#if A_ALONG_K
fn a_line(m: u32) -> ALine {
    return (batch * dims.m + min(m, dims.m - 1u)) * K;
}
fn load_a(line: ALine, kb: u32, kk: u32) -> vec4<f32> {
    let k = kb + kk;
#if A_VEC4
#if K_TAIL
    if k >= K {
        return vec4<f32>(0.0);
    }
#endif
    return a[(line + k) / 4u];
#else
    var v = vec4<f32>(0.0);
#unroll i in 0..4
    if k + $iu < K {
        v[$i] = a[line + k + $iu];
    }
#endunroll
    return v;
#endif
}
#else
fn a_line(m: u32) -> ALine {
    return m;
}
fn load_a(m: ALine, kb: u32, kk: u32) -> vec4<f32> {
    let k = kb + kk;
#if K_TAIL
    if k >= K {
        return vec4<f32>(0.0);
    }
#endif
    let at = (batch * K + k) * dims.m;
#if A_VEC4
    return a[(at + min(m, dims.m - 4u)) / 4u];
#else
    var v: vec4<f32>;
#unroll i in 0..4
    v[$i] = a[at + min(m + $iu, dims.m - 1u)];
#endunroll
    return v;
#endif
}
#endif

// Matrices of w before this batch entry's.
fn w_batch() -> u32 {
#if BATCHED_B
    return batch;
#else
    return 0u;
#endif
}

#if B_ALONG_K
fn b_line(n: u32) -> BLine {
    return (w_batch() * N + min(n, N - 1u)) * K;
}
fn load_b(line: BLine, kb: u32, kk: u32) -> vec4<f32> {
    let k = kb + kk;
#if B_VEC4
#if K_TAIL
    if k >= K {
        return vec4<f32>(0.0);
    }
#endif
    return w[(line + k) / 4u];
#else
    var v = vec4<f32>(0.0);
#unroll i in 0..4
    if k + $iu < K {
        v[$i] = w[line + k + $iu];
    }
#endunroll
    return v;
#endif
}
#else
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
    let at = (w_batch() * K + k) * N;
#if B_VEC4
    return w[(at + min(n, N - 4u)) / 4u];
#else
    var v: vec4<f32>;
#unroll i in 0..4
    v[$i] = w[at + min(n + $iu, N - 1u)];
#endunroll
    return v;
#endif
}
#endif

fn store(m: u32, n: u32, v: vec4<f32>) {
    if m < dims.m {
        put((batch * dims.m + m) * N, n, v);
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
        let column_blocks = (N + BN - 1u) / BN;
        let row_block = block / column_blocks;
        batch = row_block / dims.row_blocks;
        gemm_block(row_block % dims.row_blocks * BM, block % column_blocks * BN, K, place);
    }
}
