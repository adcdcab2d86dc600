// gemm_block(m0, n0, k_end, place): one BM x BN block of a matrix product,
// y[m, n] = sum_k a[m, k] b[k, n] for k < k_end, in the form that src/kernels/block.rs picked. The
// importing shader says where the operands live:
//
//   alias ALine, a_line(m), load_a(line, kb, kk) -> vec4    alias BLine, b_line(n), load_b(...)
//
// A_ALONG_K: a line is one row m, and load_a returns its elements k..k+3 (k = kb + kk, where kb is
// the same in the whole workgroup). Otherwise a line is four rows m..m+3 and load_a returns their
// elements at k. The same for B_ALONG_K and columns. Beyond the last k a loader must return zeros;
// beyond the last row or column anything, as store(m, n, v), which takes columns n..n+3, drops it.
//
// Place is what an invocation must know of itself. The forms of one subgroup hand values round by
// the numbers of its lanes, which are not bound to be local indices.
#if FORM == 0
struct Place { @builtin(local_invocation_index) lane: u32 }
#import gemm
#endif
#if FORM == 1
struct Place { @builtin(subgroup_invocation_id) lane: u32 }
#import gemm_subgroup
#endif
#if FORM == 2
struct Place { @builtin(subgroup_invocation_id) lane: u32 }
#import gemm_narrow
#endif
#if FORM == 3
struct Place {
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
}
#import coop_gemm
#endif
