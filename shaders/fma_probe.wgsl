// Independent chains of fused multiply-adds in registers: what a device computes when it waits for
// nothing. A loop of four steps a chain leaves little else to issue.
#import flat

struct Dims { n: u32, rounds: u32 }  // in units of vec4 and of four steps
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> factors: array<f32>;  // m, c
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 256u + lane;
    if i >= dims.n {
        return;
    }
    let m = vec4(factors[0]);
    let c = vec4(factors[1]);
#unroll j in 0..CHAINS
    var a$j = x[i] + f32($j);
#endunroll
    for (var round = 0u; round < dims.rounds; round++) {
#unroll j in 0..CHAINS
        a$j = fma(fma(fma(fma(a$j, m, c), m, c), m, c), m, c);
#endunroll
    }
    var total = vec4(0.0);
#unroll j in 0..CHAINS
    total += a$j;
#endunroll
    y[i] = total;
}
