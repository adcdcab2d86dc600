// Layer norm of x [rows, CHANNELS], a workgroup a row; stats = (mean, 1 / sqrt(variance + EPS)). Without
// CENTRED the mean counts as 0: the root-mean-square norm.
// MODE 0: y = xhat. MODE 1: y = gamma xhat + beta. MODE 2: y = xhat (1 + scale) + shift with
// m [rows / rows_per_sample, 2 CHANNELS] = [scale | shift].
#import flat
#import element
#import workgroup_sum

const CV: u32 = CHANNELS / LANES;

#if MODE == 2
struct Dims { rows: u32, rows_per_sample: u32 }
#else
struct Dims { rows: u32 }
#endif
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> x: array<Element>;
#if MODE == 0
@group(0) @binding(1) var<storage, read_write> y: array<Element>;
@group(0) @binding(2) var<storage, read_write> stats: array<vec2<f32>>;
#endif
#if MODE == 1
@group(0) @binding(1) var<storage, read> gamma: array<Element>;
@group(0) @binding(2) var<storage, read> beta: array<Element>;
@group(0) @binding(3) var<storage, read_write> y: array<Element>;
@group(0) @binding(4) var<storage, read_write> stats: array<vec2<f32>>;
#endif
#if MODE == 2
@group(0) @binding(1) var<storage, read> m: array<Element>;
@group(0) @binding(2) var<storage, read_write> y: array<Element>;
@group(0) @binding(3) var<storage, read_write> stats: array<vec2<f32>>;
#endif

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
#if SUBGROUPS
    entered: Subgroup,
#endif
) {
#if SUBGROUPS
    subgroup = entered;
#endif
    let row = flat_group(group, groups);
    if row >= dims.rows {
        return;
    }
    let base = row * CV;
#if CENTRED
    let anchor = first_lane(x[base]);
    var sum = Element(0.0);
    for (var i = lane; i < CV; i += WG) {
        sum += x[base + i] - Element(anchor);
    }
    let mean = anchor + workgroup_sum(total(sum), lane) / f32(CHANNELS);
#else
    let mean = 0.0;
#endif

    var squares = Element(0.0);
    for (var i = lane; i < CV; i += WG) {
        let d = x[base + i] - Element(mean);
        squares += d * d;
    }
    let variance = workgroup_sum(total(squares), lane) / f32(CHANNELS);
    let rstd = 1.0 / sqrt(variance + EPS);
    if lane == 0u {
        stats[row] = vec2<f32>(mean, rstd);
    }
#if MODE == 2
    let modulation = row / dims.rows_per_sample * 2u * CV;
#endif
    for (var i = lane; i < CV; i += WG) {
        let xhat = (x[base + i] - Element(mean)) * rstd;
#if MODE == 0
        y[base + i] = xhat;
#endif
#if MODE == 1
        y[base + i] = gamma[i] * xhat + beta[i];
#endif
#if MODE == 2
        y[base + i] = xhat * (Element(1.0) + m[modulation + i]) + m[modulation + CV + i];
#endif
    }
}
