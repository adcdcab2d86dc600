// One categorical draw a row: token = argmin_k E_k / p_k, E_k independent exponentials; a workgroup
// a row. With GUIDED, row r of the unconditional half meets row `rows + r` of the conditional one,
// and l = l_u + guidance (l_c - l_u) over log-probabilities. Beside the token its log-probability and
// the row's purity, its largest probability.
#import workgroup_argmin
#import workgroup_max
#import workgroup_sum
#import exponential
#import flat
#import philox
#import step

struct Dims { rows: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read_write> token: array<u32>;
@group(0) @binding(2) var<storage, read_write> logp: array<f32>;
@group(0) @binding(3) var<storage, read_write> purity: array<f32>;

// Below this a logit means "never": masks are written as -inf or as a huge negative number.
const NEVER: f32 = -1e30;
const LOWEST: f32 = -3e38;

#if GUIDED
// log sum exp of a row of the logits.
fn log_sum_exp(row: u32, lane: u32) -> f32 {
    var largest = LOWEST;
    for (var k = lane; k < K; k += WG) {
        largest = max(largest, logits[row * K + k]);
    }
    largest = workgroup_max(largest, lane);
    var sum = 0.0;
    for (var k = lane; k < K; k += WG) {
        let l = logits[row * K + k];
        if l > NEVER {
            sum += exp(l - largest);
        }
    }
    return largest + log(workgroup_sum(sum, lane));
}

fn guided(row: u32, k: u32, lse_u: f32, lse_c: f32) -> f32 {
    let l_u = logits[row * K + k];
    let l_c = logits[(dims.rows + row) * K + k];
    if !(l_u > NEVER && l_c > NEVER) {
        return LOWEST;  // what either branch excludes stays excluded
    }
    let u = l_u - lse_u;
    return u + step.guidance * ((l_c - lse_c) - u);
}
#endif

fn logit(row: u32, k: u32, lse_u: f32, lse_c: f32) -> f32 {
#if GUIDED
    return guided(row, k, lse_u, lse_c);
#else
    return logits[row * K + k];
#endif
}

// exp(sharp l / temperature) over its maximum in the row; 0 for what is excluded.
fn weight(l: f32, largest: f32, sharp: f32) -> f32 {
    return select(0.0, exp(sharp * ((l - largest) / step.temperature)), l > NEVER);
}

// What the log-probabilities are multiplied by: 1 + step.purity max p.
fn sharpness(row: u32, lane: u32, largest: f32, lse_u: f32, lse_c: f32) -> f32 {
    var sum = 0.0;
    for (var k = lane; k < K; k += WG) {
        let l = logit(row, k, lse_u, lse_c);
        sum += select(0.0, exp(l - largest), l > NEVER);
    }
    return 1.0 + step.purity / workgroup_sum(sum, lane);
}

// The least weight of the tokens that are drawn from: the largest t whose tokens of weight t and more
// are top_k, or have top_p of the probability. By bisection over the bits of positive numbers, which
// are in their order.
fn cut(row: u32, lane: u32, largest: f32, lse_u: f32, lse_c: f32) -> f32 {
    var sum = 0.0;
    for (var k = lane; k < K; k += WG) {
        sum += weight(logit(row, k, lse_u, lse_c), largest, 1.0);
    }
    let wanted = select(3e38, step.top_p * workgroup_sum(sum, lane), step.top_p < 1.0);
    let most = select(3e38, f32(step.top_k), step.top_k > 0u);
    var low = 0u;
    var high = 0x3f800001u;  // above 1
    for (var round = 0u; round < 30u; round++) {
        let middle = (low + high) / 2u;
        var mass = 0.0;
        var count = 0.0;
        for (var k = lane; k < K; k += WG) {
            let w = weight(logit(row, k, lse_u, lse_c), largest, 1.0);
            if w >= bitcast<f32>(middle) {
                mass += w;
                count += 1.0;
            }
        }
        mass = workgroup_sum(mass, lane);
        count = workgroup_sum(count, lane);
        if mass >= wanted || count >= most {
            low = middle;
        } else {
            high = middle;
        }
    }
    // A weight that is computed again may come out one rounding less.
    return 0.999999 * bitcast<f32>(low);
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
    var lse_u = 0.0;
    var lse_c = 0.0;
#if GUIDED
    lse_u = log_sum_exp(row, lane);
    lse_c = log_sum_exp(dims.rows + row, lane);
#endif

    var largest = LOWEST;
    for (var k = lane; k < K; k += WG) {
        largest = max(largest, logit(row, k, lse_u, lse_c));
    }
    largest = workgroup_max(largest, lane);
    var least = 0.0;
    if step.top_p < 1.0 || step.top_k > 0u {
        least = cut(row, lane, largest, lse_u, lse_c);
    }
    var sharp = 1.0;
    if step.purity > 0.0 {
        sharp = sharpness(row, lane, largest, lse_u, lse_c);
    }

    let seed = vec2<u32>(step.seed_lo, step.seed_hi);
    var best = 3e38;
    var winner = 0u;
    var sum = 0.0;
    for (var block = lane; block < BLOCKS; block += WG) {
        let words = philox(vec4<u32>(row * BLOCKS + block, STREAM, step.step, 0u), seed);
        for (var e = 0u; e < 4u; e++) {
            let k = 4u * block + e;
            if k < K {
                let l = logit(row, k, lse_u, lse_c);
                if l > NEVER {
                    sum += exp(l - largest);
                    let p = weight(l, largest, sharp);
                    var more = vec4<u32>(0u);
                    if words[e] < 0x800000u {
                        more = philox(vec4<u32>(row * K + k, STREAM, step.step, 1u), seed);
                    }
                    // p = 0 is skipped, never divided by.
                    if p > 0.0 && weight(l, largest, 1.0) >= least {
                        let time = exponential(words[e], more) / p;
                        if time < best {
                            best = time;
                            winner = k;
                        }
                    }
                }
            }
        }
    }
    winner = workgroup_argmin(best, winner, lane);
    sum = workgroup_sum(sum, lane);
    if lane == 0u {
        token[row] = winner;
        logp[row] = logit(row, winner, lse_u, lse_c) - (largest + log(sum));
        purity[row] = 1.0 / sum;
    }
}
