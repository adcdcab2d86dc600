// counts[k] and sums[k, :] of the rows whose index is k. A workgroup owns PER CODES codes x CHANNELS
// channels, an invocation PER codes of one channel; all scan the indices 256 at a time. Who has
// which row is a bit mask per code, set by integer atomics (an OR has no order), and every owner walks its bits
// in ascending order: each sum is taken in the order of the rows.
#import flat

struct Dims { n: u32, k: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> idx: array<u32>;
@group(0) @binding(1) var<storage, read> z: array<f32>;
@group(0) @binding(2) var<storage, read_write> counts: array<f32>;
@group(0) @binding(3) var<storage, read_write> sums: array<f32>;

const WORDS: u32 = 8u;  // 256 rows
var<workgroup> members: array<atomic<u32>, PER * CODES * WORDS>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first_code = flat_group(group, groups) * PER * CODES;
    let own = lane / CHANNELS;
    let channel = group.z * CHANNELS + lane % CHANNELS;
    let owner = own < CODES && channel < D;
#unroll s in 0..PER
    var count$s = 0u;
    var sum$s = 0.0;
#endunroll
    for (var first = 0u; first < dims.n; first += 256u) {
        for (var w = lane; w < PER * CODES * WORDS; w += 256u) {
            atomicStore(&members[w], 0u);
        }
        workgroupBarrier();
        if first + lane < dims.n {
            // Smaller indices wrap far beyond the codes of this workgroup.
            let code = idx[first + lane] - first_code;
            if code < PER * CODES {
                atomicOr(&members[code * WORDS + lane / 32u], 1u << (lane % 32u));
            }
        }
        workgroupBarrier();
        if owner {
#unroll s in 0..PER
            for (var w = 0u; w < WORDS; w++) {
                var bits = atomicLoad(&members[(own + $su * CODES) * WORDS + w]);
                count$s += countOneBits(bits);
                while bits != 0u {
                    let row = first + w * 32u + firstTrailingBit(bits);
                    sum$s += z[row * D + channel];
                    bits &= bits - 1u;
                }
            }
#endunroll
        }
        workgroupBarrier();
    }
    if !owner {
        return;
    }
#unroll s in 0..PER
    let code$s = first_code + own + $su * CODES;
    if code$s < dims.k {
#if ACCUM
        sums[code$s * D + channel] += sum$s;
        if channel == 0u {
            counts[code$s] += f32(count$s);
        }
#else
        sums[code$s * D + channel] = sum$s;
        if channel == 0u {
            counts[code$s] = f32(count$s);
        }
#endif
    }
#endunroll
}
