// Products of T x T tiles with f16 factors and f32 sums, a tile spread over the invocations of a
// subgroup. Factors lie in `factors`, finished tiles in `tiles`; positions and strides count
// elements and are multiples of 8, as the device may read 16 bytes at a time. "Rows": neighbours of
// a row are neighbours in memory; "columns": those of a column are.
//
// Only in control flow that is uniform in the subgroup. The kernel declares T, FACTORS and TILES.
enable f16;
var<workgroup> factors: array<f16, FACTORS>;
var<workgroup> tiles: array<f32, TILES>;

fn stage(at: u32, value: vec4<f32>) {
    let h = vec4<f16>(value);
    factors[at] = h.x;
    factors[at + 1u] = h.y;
    factors[at + 2u] = h.z;
    factors[at + 3u] = h.w;
}

// Elements at, .., at + 3 of `tiles`.
fn tile_row(at: u32) -> vec4<f32> {
    return vec4<f32>(tiles[at], tiles[at + 1u], tiles[at + 2u], tiles[at + 3u]);
}

#if EMULATED
#import coop_emulated
#else
enable wgpu_cooperative_matrix;
#if T == 8
alias Left = coop_mat8x8<f16, A>;
alias Right = coop_mat8x8<f16, B>;
alias Sum = coop_mat8x8<f32, C>;
#else
alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sum = coop_mat16x16<f32, C>;
#endif

fn left_rows(at: u32, stride: u32) -> Left { return coopLoadT<Left>(&factors[at], stride); }
fn left_columns(at: u32, stride: u32) -> Left { return coopLoad<Left>(&factors[at], stride); }
fn right_rows(at: u32, stride: u32) -> Right { return coopLoadT<Right>(&factors[at], stride); }
fn right_columns(at: u32, stride: u32) -> Right { return coopLoad<Right>(&factors[at], stride); }
fn no_sum() -> Sum { return Sum(); }
fn load_sum(at: u32, stride: u32) -> Sum { return coopLoadT<Sum>(&tiles[at], stride); }
fn store_sum(sum: Sum, at: u32, stride: u32) { coopStoreT(sum, &tiles[at], stride); }
fn add_product(sum: Sum, left: Left, right: Right) -> Sum {
    return coopMultiplyAdd(left, right, sum);
}
#endif
