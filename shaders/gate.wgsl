// y = gate h, with RESIDUAL x + gate h (ACCUM: y += ...): x, h, y [rows, CHANNELS], a gate for each channel
// of each sample, which is rows_per_sample rows. One element (or vec4) an invocation.
#import flat
#import element

const CV: u32 = CHANNELS / LANES;

struct Dims { rows: u32, rows_per_sample: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
#if RESIDUAL
@group(0) @binding(0) var<storage, read> x: array<Element>;
@group(0) @binding(1) var<storage, read> gate: array<Element>;
@group(0) @binding(2) var<storage, read> h: array<Element>;
@group(0) @binding(3) var<storage, read_write> y: array<Element>;
#else
@group(0) @binding(0) var<storage, read> gate: array<Element>;
@group(0) @binding(1) var<storage, read> h: array<Element>;
@group(0) @binding(2) var<storage, read_write> y: array<Element>;
#endif

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 256u + lane;
    if i >= dims.rows * CV {
        return;
    }
    let sample = i / CV / dims.rows_per_sample;
    var v = gate[sample * CV + i % CV] * h[i];
#if RESIDUAL
    v = x[i] + v;
#endif
#if ACCUM
    y[i] += v;
#else
    y[i] = v;
#endif
}
