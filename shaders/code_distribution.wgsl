// Partial sums over rows of the distribution over the 2^G codes of a group of bits, which are set with
// probability sigmoid(SLOPE z); an invocation a code, a workgroup a tile of codes of one group in one
// chunk of rows.
#import bit_chances

struct Dims { rows: u32, chunk: u32, share: f32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> z: array<f32>;
@group(0) @binding(1) var<storage, read_write> partials: array<f32>;

const CODES: u32 = 1u << G;
const GROUPS: u32 = (D + G - 1u) / G;
const ROWS: u32 = 32u;
// Of each bit the chances that it is clear and that it is set.
var<workgroup> chance: array<vec2<f32>, ROWS * G>;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let code = group.x * WG + lane;
    let first = group.y * G;
    let bits = min(G, D - first);
    let end = min((group.z + 1u) * dims.chunk, dims.rows);
    var sum = 0.0;
    for (var tile = group.z * dims.chunk; tile < end; tile += ROWS) {
        let count = min(ROWS, end - tile);
        for (var t = lane; t < count * bits; t += WG) {
            let row = t / bits;
            let bit = t % bits;
            chance[row * G + bit] = bit_chances(SLOPE * z[(tile + row) * D + first + bit]);
        }
        workgroupBarrier();
        if code < (1u << bits) {
            for (var row = 0u; row < count; row++) {
                var p = 1.0;
                for (var bit = 0u; bit < bits; bit++) {
                    p *= chance[row * G + bit][(code >> bit) & 1u];
                }
                sum += p;
            }
        }
        workgroupBarrier();
    }
    if code < CODES {
        partials[(group.z * GROUPS + group.y) * CODES + code] = dims.share * sum;
    }
}
