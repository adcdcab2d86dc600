// dx = rstd (g - mean(g) - xhat mean(g xhat)) over a row, a workgroup a row; ACCUM: dx += ...
// g = dy, dy gamma or dy (1 + scale) by MODE, as in layer_norm; without CENTRED there is no mean(g).
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
@group(0) @binding(1) var<storage, read> stats: array<vec2<f32>>;
#if MODE == 0
@group(0) @binding(2) var<storage, read> dy: array<Element>;
@group(0) @binding(3) var<storage, read_write> dx: array<Element>;
#endif
#if MODE == 1
@group(0) @binding(2) var<storage, read> gamma: array<Element>;
@group(0) @binding(3) var<storage, read> dy: array<Element>;
@group(0) @binding(4) var<storage, read_write> dx: array<Element>;
#endif
#if MODE == 2
@group(0) @binding(2) var<storage, read> m: array<Element>;
@group(0) @binding(3) var<storage, read> dy: array<Element>;
@group(0) @binding(4) var<storage, read_write> dx: array<Element>;
#endif

// Upstream gradient of xhat.
fn upstream(row: u32, i: u32) -> Element {
#if MODE == 0
    return dy[row * CV + i];
#endif
#if MODE == 1
    return dy[row * CV + i] * gamma[i];
#endif
#if MODE == 2
    return dy[row * CV + i] * (Element(1.0) + m[row / dims.rows_per_sample * 2u * CV + i]);
#endif
}

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
    let stat = stats[row];
#if CENTRED
    var plain = Element(0.0);
#endif
    var with_xhat = Element(0.0);
    for (var i = lane; i < CV; i += WG) {
        let g = upstream(row, i);
#if CENTRED
        plain += g;
#endif
        with_xhat += g * ((x[base + i] - Element(stat.x)) * stat.y);
    }
#if CENTRED
    let mean_g = workgroup_sum(total(plain), lane) / f32(CHANNELS);
#else
    let mean_g = 0.0;
#endif
    let mean_g_xhat = workgroup_sum(total(with_xhat), lane) / f32(CHANNELS);
    for (var i = lane; i < CV; i += WG) {
        let xhat = (x[base + i] - Element(stat.x)) * stat.y;
        let v = stat.y * (upstream(row, i) - Element(mean_g) - xhat * mean_g_xhat);
#if ACCUM
        dx[base + i] += v;
#else
        dx[base + i] = v;
#endif
    }
}
