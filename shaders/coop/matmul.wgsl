// y[b, m, n] = act(sum_k a[b, m, k] w[b, k, n] + bias[n]) as in shaders/matmul.wgsl, by cooperative
// matrices. K and N are multiples of 4, and m where a is stored [b, k, m].
#import flat
#import coop_gemm

struct Dims { m: u32, row_blocks: u32, blocks: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> w: array<vec4<f32>>;
#if BIAS
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;
#else
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
#endif

#if ACT
alias Element = vec4<f32>;
#import activation
#endif

var<private> batch: u32;

// A line along k is the offset of its first element; across k, the index of its first row or column.
alias ALine = u32;
alias BLine = u32;

#if A_ALONG_K
fn a_line(m: u32) -> ALine { return (batch * dims.m + min(m, dims.m - 1u)) * K; }
fn load_a(line: ALine, kb: u32, kk: u32) -> vec4<f32> {
    let k = kb + kk;
    if k >= K {
        return vec4<f32>(0.0);
    }
    return a[(line + k) / 4u];
}
#else
fn a_line(m: u32) -> ALine { return min(m, dims.m - 4u); }
fn load_a(m: ALine, kb: u32, kk: u32) -> vec4<f32> {
    let k = kb + kk;
    if k >= K {
        return vec4<f32>(0.0);
    }
    return a[((batch * K + k) * dims.m + m) / 4u];
}
#endif

// Matrices of w before this batch entry's.
fn w_batch() -> u32 { return batch * BATCHED_B; }

#if B_ALONG_K
fn b_line(n: u32) -> BLine { return (w_batch() * N + min(n, N - 1u)) * K; }
fn load_b(line: BLine, kb: u32, kk: u32) -> vec4<f32> {
    let k = kb + kk;
    if k >= K {
        return vec4<f32>(0.0);
    }
    return w[(line + k) / 4u];
}
#else
fn b_line(n: u32) -> BLine { return min(n, N - 4u); }
fn load_b(n: BLine, kb: u32, kk: u32) -> vec4<f32> {
    let k = kb + kk;
    if k >= K {
        return vec4<f32>(0.0);
    }
    return w[((w_batch() * K + k) * N + n) / 4u];
}
#endif

fn store(m: u32, n: u32, sum: vec4<f32>) {
    if m >= dims.m || n >= N {
        return;
    }
    var v = sum;
#if BIAS
    v += bias[n / 4u];
#endif
#if ACT
    v = f(v);
#endif
    let at = ((batch * dims.m + m) * N + n) / 4u;
#if ACCUM
    y[at] += v;
#else
    y[at] = v;
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
        let column_blocks = (N + BN - 1u) / BN;
        let row_block = block / column_blocks;
        batch = row_block / dims.row_blocks;
        coop_gemm(row_block % dims.row_blocks * BM, block % column_blocks * BN, K, lane);
    }
}
