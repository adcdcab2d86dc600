// What the attention kernels share: WG = 2 ROWS invocations, as a grid (ty, tx) 8 wide, work on a tile
// of ROWS x TILE scores between "rows" and "columns" (queries and keys, or the reverse).
//
// Invocation (ty, tx) owns the scores of rows 4 ty + r with columns tx + 8 s (r, s in 0..4), and of
// every result row 4 ty + r the vec4 tx of each chunk. A head is taken through workgroup memory in
// CHUNKS chunks of CHUNK4 vec4s: any D fits. Rows past the end are staged as zeros.
#import attention_io

const TILE: u32 = 32u;
const WG: u32 = 2u * ROWS;
const D4: u32 = (D + 3u) / 4u;
const STRIDE: u32 = CHUNK4 + 1u;  // padded: rows start in different banks

var<workgroup> staged_rows: array<vec4<f32>, ROWS * STRIDE>;
var<workgroup> staged_columns: array<vec4<f32>, TILE * STRIDE>;
// Scores of column j with rows 4 ty .. 4 ty + 3 at [j * PITCH + ty].
const PITCH: u32 = ROWS / 4u + 1u;
var<workgroup> staged_scores: array<vec4<f32>, TILE * PITCH>;

// One vec4 for each of an invocation's four rows.
struct Rows { r0: vec4<f32>, r1: vec4<f32>, r2: vec4<f32>, r3: vec4<f32> }

fn zero_rows() -> Rows {
    let z = vec4<f32>(0.0);
    return Rows(z, z, z, z);
}

fn sum4(v: vec4<f32>) -> f32 { return (v.x + v.y) + (v.z + v.w); }
fn greatest4(v: vec4<f32>) -> f32 { return max(max(v.x, v.y), max(v.z, v.w)); }

// Vec4 `i` of chunk `chunk` of the tokens from `first` of a tensor [b, length, width]; `base` is the word
// of the head in the sequence's first token.
fn staged(source: u32, base: u32, first: u32, length: u32, width: u32, chunk: u32, i: u32) -> vec4<f32> {
    let token = first + i / CHUNK4;
    let column = chunk * CHUNK4 + i % CHUNK4;
    if token < length && column < D4 {
        return load4(source, base + token * width, column);
    }
    return vec4<f32>(0.0);
}

fn stage_rows(source: u32, base: u32, first: u32, length: u32, width: u32, chunk: u32, lane: u32) {
    for (var i = lane; i < ROWS * CHUNK4; i += WG) {
        staged_rows[i / CHUNK4 * STRIDE + i % CHUNK4] =
            staged(source, base, first, length, width, chunk, i);
    }
}

fn stage_columns(source: u32, base: u32, first: u32, length: u32, width: u32, chunk: u32, lane: u32) {
    for (var i = lane; i < TILE * CHUNK4; i += WG) {
        staged_columns[i / CHUNK4 * STRIDE + i % CHUNK4] =
            staged(source, base, first, length, width, chunk, i);
    }
}

// scores + staged_rows . staged_columns over the staged chunk; component s is column tx + 8 s.
fn add_products(scores: Rows, ty: u32, tx: u32) -> Rows {
    var sum = scores;
    for (var i = 0u; i < CHUNK4; i++) {
        let c0 = staged_columns[tx * STRIDE + i];
        let c1 = staged_columns[(tx + 8u) * STRIDE + i];
        let c2 = staged_columns[(tx + 16u) * STRIDE + i];
        let c3 = staged_columns[(tx + 24u) * STRIDE + i];
#unroll r in 0..4
        let a$r = staged_rows[(4u * ty + $ru) * STRIDE + i];
        sum.r$r += vec4<f32>(dot(a$r, c0), dot(a$r, c1), dot(a$r, c2), dot(a$r, c3));
#endunroll
    }
    return sum;
}

fn stage_scores(scores: Rows, ty: u32, tx: u32) {
#unroll s in 0..4
    staged_scores[(tx + 8u * $su) * PITCH + ty] =
        vec4<f32>(scores.r0[$s], scores.r1[$s], scores.r2[$s], scores.r3[$s]);
#endunroll
}

// result + staged_scores . staged_columns for vec4 tx of the staged chunk.
fn add_mixture(result: Rows, ty: u32, tx: u32) -> Rows {
    var sum = result;
    let column = min(tx, CHUNK4 - 1u);  // idle invocations of a narrow chunk read along
    for (var j = 0u; j < TILE; j++) {
        let p = staged_scores[j * PITCH + ty];
        let v = staged_columns[j * STRIDE + column];
        sum.r0 += p.x * v;
        sum.r1 += p.y * v;
        sum.r2 += p.z * v;
        sum.r3 += p.w * v;
    }
    return sum;
}

// vec4 `tx` of a chunk of a result, unless it is past the head's end.
fn store_chunk(sink: u32, token: u32, chunk: u32, tx: u32, value: vec4<f32>) {
    let column = chunk * CHUNK4 + tx;
    if column < D4 {
        store4(sink, token, column, value);
    }
}
