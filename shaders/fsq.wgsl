// Finite scalar quantisation, a row an invocation: digits round(tanh(z + shift) half - offset) + L/2,
// y their values in [-1, 1], idx the number they write, channel 0 first. BACKWARD, an element an
// invocation: dz = dy half (1 - tanh^2(z + shift)) / (L/2) (ACCUM: dz += ...).
#import flat

struct Dims { rows: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> z: array<f32>;
// half, offset, shift, L
@group(0) @binding(1) var<storage, read> channels: array<vec4<f32>>;
#if BACKWARD
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dz: array<f32>;
#else
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> idx: array<u32>;

// By exp of nothing positive: the built-in may overflow to NaN.
fn bounded_tanh(u: f32) -> f32 {
    let e = exp(-2.0 * abs(u));
    let t = (1.0 - e) / (1.0 + e);
    return select(t, -t, u < 0.0);
}
#endif

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 64u + lane;
#if BACKWARD
    if i >= dims.rows * D {
        return;
    }
    let channel = channels[i % D];
    let e = exp(-2.0 * abs(z[i] + channel.z));
    let slope = 4.0 * channel.x * e / ((1.0 + e) * (1.0 + e));
    let g = dy[i] * slope / floor(0.5 * channel.w);
#if ACCUM
    dz[i] += g;
#else
    dz[i] = g;
#endif
#else
    if i >= dims.rows {
        return;
    }
    var index = 0u;
    var basis = 1u;
    for (var c = 0u; c < D; c++) {
        let v = z[i * D + c];
        let channel = channels[c];
        let levels = u32(channel.w);
        let half = floor(0.5 * channel.w);
        let rounded = round(bounded_tanh(v + channel.z) * channel.x - channel.y);
        var digit = min(u32(max(rounded + half, 0.0)), levels - 1u);
        var code = (f32(digit) - half) / half;
        if levels == 2u {
            digit = select(0u, 1u, v >= 0.0);
            code = select(-1.0, 1.0, v >= 0.0);
        }
        y[i * D + c] = code;
        index += basis * digit;
        basis *= levels;
    }
    idx[i] = index;
#endif
}
