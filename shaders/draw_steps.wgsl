// time: for every sample the first step t whose w_0 + .. + w_t exceeds u sum w; noise: the words of that
// step, with the factors of the loss divided by p_t = w_t / sum w. An invocation a sample.
#import flat
#import noise
#import philox
#import step

struct Dims { samples: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> history: array<f32>;
@group(0) @binding(1) var<storage, read> count: array<f32>;
@group(0) @binding(2) var<storage, read> table: array<f32>;
@group(0) @binding(3) var<storage, read_write> time: array<u32>;
@group(0) @binding(4) var<storage, read_write> noise: array<f32>;

// w_t; `known`: every step has been drawn often enough.
fn weight(t: u32, known: bool) -> f32 {
    if !known {
        return 1.0;
    }
    return sqrt(history[min(max(t, 1u), STEPS - 1u)] + 1e-10) + 1e-4;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let b = flat_group(group, groups) * 64u + lane;
    if b >= dims.samples {
        return;
    }
    var known = true;
    for (var t = 0u; t < STEPS; t++) {
        known = known && count[t] > WARM;
    }
    var total = 0.0;
    for (var t = 0u; t < STEPS; t++) {
        total += weight(t, known);
    }
    let counter = vec4<u32>(0u, STREAM, step.sample_base + b, 0u);
    let share = unit(philox(counter, vec2<u32>(step.seed_lo, step.seed_hi)).x) * total;
    // The product may round up to the sum.
    var drawn = STEPS - 1u;
    var below = 0.0;
    for (var t = 0u; t < STEPS; t++) {
        below += weight(t, known);
        if share < below {
            drawn = t;
            break;
        }
    }
    let factor = total / weight(drawn, known);
    for (var i = 0u; i < NOISE_WORDS; i++) {
        let scaled = i == BOUND_WORD || i == AUXILIARY_WORD;
        noise[b * NOISE_WORDS + i] = table[drawn * NOISE_WORDS + i] * select(1.0, factor, scaled);
    }
    time[b] = drawn;
}
