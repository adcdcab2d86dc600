// The attention of shaders/attention.wgsl by cooperative matrices: QUERIES queries of a head a
// workgroup, KEYS keys at a time. Scores and the weighted values pass through `tiles` in f32; q, k, v
// and the weights exp(score - maximum so far) are f16. T divides D.
#import coop
#import subgroup

struct Dims { lq: u32, lk: u32, heads: u32, scale: f32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> v: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> lse: array<f32>;

const LOWEST: f32 = -3.0e38;
// In `factors`: queries [QUERIES][D], keys or values [KEYS][D], weights [QUERIES][KEYS], lines padded.
const PITCH: u32 = D + 8u;
const OTHERS: u32 = QUERIES * PITCH;
const WEIGHTS: u32 = OTHERS + KEYS * PITCH;
const WEIGHT_PITCH: u32 = KEYS + 8u;
// In `tiles`: scores [QUERIES][KEYS], results [QUERIES][D].
const RESULTS: u32 = QUERIES * KEYS;

var<workgroup> highest: array<f32, QUERIES>;
var<workgroup> mass: array<f32, QUERIES>;
var<workgroup> shrink: array<f32, QUERIES>;

const Q: u32 = 0u;
const K: u32 = 1u;
const V: u32 = 2u;

// `count` tokens from `first` on of a sequence of `length`, zeros past its end.
fn stage_tokens(source: u32, at: u32, base: u32, first: u32, length: u32, count: u32, lane: u32) {
    for (var i = lane; i < count * D / 4u; i += WG) {
        let token = first + i / (D / 4u);
        let column = i % (D / 4u);
        var value = vec4<f32>(0.0);
        if token < length {
            let word = (base + token * dims.heads * D) / 4u + column;
            if source == Q {
                value = q[word];
            } else if source == K {
                value = k[word];
            } else {
                value = v[word];
            }
        }
        stage(at + i / (D / 4u) * PITCH + 4u * column, value);
    }
}

// Weights of a row's KEYS scores, its new maximum and mass, and the factor of what was before. Each
// row starts at a column of its own: the rows' scores of one column share a memory bank.
fn weigh(row: u32, first: u32) {
    let keys = min(KEYS, dims.lk - first);
    var higher = highest[row];
    for (var j = 0u; j < KEYS; j++) {
        let column = (row + j) % KEYS;
        let score = tiles[row * KEYS + column] * dims.scale;
        higher = select(higher, max(higher, score), column < keys);
    }
    let factor = exp(highest[row] - higher);
    var sum = mass[row] * factor;
    for (var j = 0u; j < KEYS; j++) {
        let column = (row + j) % KEYS;
        let score = tiles[row * KEYS + column] * dims.scale;
        let weight = select(0.0, exp(score - higher), column < keys);
        sum += weight;
        factors[WEIGHTS + row * WEIGHT_PITCH + column] = f16(weight);
    }
    highest[row] = higher;
    mass[row] = sum;
    shrink[row] = factor;
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    entered: Subgroup,
) {
    subgroup = entered;
    let first_query = group.x * QUERIES;
    let q_base = (group.z * dims.lq * dims.heads + group.y) * D;
    let k_base = (group.z * dims.lk * dims.heads + group.y) * D;

    stage_tokens(Q, 0u, q_base, first_query, dims.lq, QUERIES, lane);
    for (var row = lane; row < QUERIES; row += WG) {
        highest[row] = LOWEST;
        mass[row] = 0.0;
    }
    for (var i = lane; i < QUERIES * D; i += WG) {
        tiles[RESULTS + i] = 0.0;
    }
    for (var first = 0u; first < dims.lk; first += KEYS) {
        stage_tokens(K, OTHERS, k_base, first, dims.lk, KEYS, lane);
        workgroupBarrier();
        for (var t = subgroup.id; t < QUERIES / T * (KEYS / T); t += subgroup.count) {
            let row = t / (KEYS / T) * T;
            let column = t % (KEYS / T) * T;
            var sum = no_sum();
            for (var x = 0u; x < D; x += T) {
                let left = left_rows(row * PITCH + x, PITCH);
                sum = add_product(sum, left, right_columns(OTHERS + column * PITCH + x, PITCH));
            }
            store_sum(sum, row * KEYS + column, KEYS);
        }
        workgroupBarrier();
        for (var row = lane; row < QUERIES; row += WG) {
            weigh(row, first);
        }
        stage_tokens(V, OTHERS, k_base, first, dims.lk, KEYS, lane);
        workgroupBarrier();
        for (var i = lane; i < QUERIES * D; i += WG) {
            tiles[RESULTS + i] *= shrink[i / D];
        }
        workgroupBarrier();
        for (var t = subgroup.id; t < QUERIES / T * (D / T); t += subgroup.count) {
            let row = t / (D / T) * T;
            let column = t % (D / T) * T;
            let at = RESULTS + row * D + column;
            var sum = load_sum(at, D);
            for (var j = 0u; j < KEYS; j += T) {
                let left = left_rows(WEIGHTS + row * WEIGHT_PITCH + j, WEIGHT_PITCH);
                sum = add_product(sum, left, right_rows(OTHERS + j * PITCH + column, PITCH));
            }
            store_sum(sum, at, D);
        }
        workgroupBarrier();
    }

    for (var i = lane; i < QUERIES * D / 4u; i += WG) {
        let row = i / (D / 4u);
        let query = first_query + row;
        if query < dims.lq {
            let word = (q_base + query * dims.heads * D) / 4u + i % (D / 4u);
            y[word] = tile_row(RESULTS + 4u * i) / mass[row];
        }
    }
    for (var row = lane; row < QUERIES; row += WG) {
        if first_query + row < dims.lq {
            lse[(group.z * dims.heads + group.y) * dims.lq + first_query + row] =
                highest[row] + log(mass[row]);
        }
    }
}
