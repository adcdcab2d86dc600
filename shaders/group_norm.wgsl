// y = gamma (x - mean) rstd + beta, then SiLU if asked: one element an invocation.
#import flat
#import element
#if SILU
#import silu
#endif

const CV: u32 = CHANNELS / LANES;
const WIDTH: u32 = CHANNELS / GROUPS;

struct Dims { elements: u32, hw: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> x: array<Element>;
@group(0) @binding(1) var<storage, read> stats: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> gamma: array<Element>;
@group(0) @binding(3) var<storage, read> beta: array<Element>;
@group(0) @binding(4) var<storage, read_write> y: array<Element>;
#import group_stats

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 256u + lane;
    if i >= dims.elements {
        return;
    }
    let channel = i % CV;
    let stat = stat_of(i / CV / dims.hw, channel);
    // The difference first: folding the mean into beta would cancel where |mean| >> std.
    let v = gamma[channel] * ((x[i] - stat.mean) * stat.rstd) + beta[channel];
#if SILU
    y[i] = silu(v);
#else
    y[i] = v;
#endif
}
