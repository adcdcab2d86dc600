// Of each sample, with target magnitudes t and magnitudes y: energy = sum t^2,
// convergence = sqrt(sum (t - y)^2 / energy + EPS), and
// loss = convergence + mean |ln(y / t)|. A workgroup a sample.
const WG: u32 = 256u;
#import workgroup_sum

struct Dims { m: u32 }  // magnitudes of a sample
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> y: array<f32>;
@group(0) @binding(1) var<storage, read> t: array<f32>;
@group(0) @binding(2) var<storage, read_write> loss: array<f32>;
@group(0) @binding(3) var<storage, read_write> parts: array<f32>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
#if SUBGROUPS
    entered: Subgroup,
#endif
) {
#if SUBGROUPS
    subgroup = entered;
#endif
    let sample = group.x;
    var difference = 0.0;
    var energy = 0.0;
    var ratio = 0.0;
    for (var j = lane; j < dims.m; j += WG) {
        let i = sample * dims.m + j;
        let d = t[i] - y[i];
        difference += d * d;
        energy += t[i] * t[i];
        ratio += abs(log(y[i] / t[i]));
    }
    difference = workgroup_sum(difference, lane);
    energy = workgroup_sum(energy, lane);
    ratio = workgroup_sum(ratio, lane);
    if lane == 0u {
        let convergence = sqrt(difference / energy + EPS);
        loss[sample] = convergence + ratio / f32(dims.m);
        parts[2u * sample] = energy;
        parts[2u * sample + 1u] = convergence;
    }
}
