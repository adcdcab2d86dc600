// Standard normal numbers by Box and Muller, four an invocation.
#import flat
#import minus_log
#import philox
#import step
#import unit_interval

struct Dims { blocks: u32 }  // of four numbers, in all samples
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read_write> y: array<f32>;

const BLOCKS: u32 = (PER_SAMPLE + 3u) / 4u;

fn words(j: u32, sample: u32) -> vec4<u32> {
    let counter = vec4<u32>(j, STREAM, step.sample_base + sample, step.step);
    return philox(counter, vec2<u32>(step.seed_lo, step.seed_hi));
}

// sqrt(-2 log v) for v in (0, 1).
fn radius(v: f32) -> f32 {
    return sqrt(2.0 * select(-log(v), minus_log_series(1.0 - v), v > 0.984375));
}

// Cosine and sine of a quarter turn (2 bits) plus at most an eighth (24 bits) either way.
fn direction(word: u32) -> vec2<f32> {
    let steps = f32(i32((word >> 6u) & 0xffffffu) - 8388608) + 0.5;
    let x = 1.5707963267948966 * (steps * 5.9604644775390625e-8);
    let xx = x * x;
    var c = 1.0 - xx * 0.011111111;
    c = 1.0 - xx * c * 0.017857143;
    c = 1.0 - xx * c * 0.033333335;
    c = 1.0 - xx * c * 0.083333336;
    c = 1.0 - xx * c * 0.5;
    var s = 1.0 - xx * 0.009090909;
    s = 1.0 - xx * s * 0.013888889;
    s = 1.0 - xx * s * 0.023809524;
    s = 1.0 - xx * s * 0.05;
    s = x * (1.0 - xx * s * 0.16666667);
    let quarter = word >> 30u;
    let turned = select(vec2<f32>(c, s), vec2<f32>(-s, c), (quarter & 1u) == 1u);
    return select(turned, -turned, quarter >= 2u);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 64u + lane;
    if i >= dims.blocks {
        return;
    }
    let sample = i / BLOCKS;
    let j = i % BLOCKS;
    let w = words(j, sample);
    var more = vec4<u32>(0u);
    if w.x < 0x800000u {
        more = words(j | 0x80000000u, sample);
    }
    let first = radius(unit_interval(w.x, more)) * direction(w.y);
    if w.z < 0x800000u {
        more = words(j | 0xc0000000u, sample);
    }
    let second = radius(unit_interval(w.z, more)) * direction(w.w);
    let four = vec4<f32>(first, second);
#unroll e in 0..4
    if 4u * j + $eu < PER_SAMPLE {
        y[sample * PER_SAMPLE + 4u * j + $eu] = four[$e];
    }
#endunroll
}
