// dz = -FACTOR dloss SLOPE sum over codes of log q (bit - s) P, with s = sigmoid(SLOPE z) and P the
// chance of the code (ACCUM: dz += ...); a group of bits of a row an invocation.
#import bit_chances
#import flat

struct Dims { rows: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> z: array<f32>;
@group(0) @binding(1) var<storage, read> log_q: array<f32>;
@group(0) @binding(2) var<storage, read> dloss: array<f32>;
@group(0) @binding(3) var<storage, read_write> dz: array<f32>;

const GROUPS: u32 = (D + G - 1u) / G;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 64u + lane;
    if i >= dims.rows * GROUPS {
        return;
    }
    let first = (i % GROUPS) * G;
    let bits = min(G, D - first);
    let start = (i / GROUPS) * D + first;
    // Of each bit the chances that it is clear and that it is set, and sums over codes of log q P.
    var chance: array<vec2<f32>, G>;
    var sums: array<vec2<f32>, G>;
    for (var bit = 0u; bit < bits; bit++) {
        chance[bit] = bit_chances(SLOPE * z[start + bit]);
        sums[bit] = vec2(0.0);
    }
    for (var code = 0u; code < (1u << bits); code++) {
        var p = log_q[((i % GROUPS) << G) + code];
        for (var bit = 0u; bit < bits; bit++) {
            p *= chance[bit][(code >> bit) & 1u];
        }
        for (var bit = 0u; bit < bits; bit++) {
            let high = ((code >> bit) & 1u) == 1u;
            sums[bit] += select(vec2(p, 0.0), vec2(0.0, p), high);
        }
    }
    for (var bit = 0u; bit < bits; bit++) {
        let slope = chance[bit].x * sums[bit].y - chance[bit].y * sums[bit].x;
        let g = -(FACTOR * dloss[0] * SLOPE) * slope;
#if ACCUM
        dz[start + bit] += g;
#else
        dz[start + bit] = g;
#endif
    }
}
