// value = KL(q(x_s | x_t, x_0) || p(x_s | x_t)) of a row, weighted by what x_t is, or where n.first
// -log p(x_0 | x_t) by way of the step; loss = bound value + auxiliary (weighted) cross-entropy. A
// workgroup a row.
#import flat
#import token_posterior
#import workgroup_max

struct Dims { rows: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> truth: array<u32>;
@group(0) @binding(2) var<storage, read> seen: array<u32>;
@group(0) @binding(3) var<storage, read> noise: array<f32>;
@group(0) @binding(4) var<storage, read_write> value: array<f32>;
@group(0) @binding(5) var<storage, read_write> loss: array<f32>;
@group(0) @binding(6) var<storage, read_write> stats: array<f32>;

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
    let n = noise_of(row / LEN);
    let x = seen[row];
    let j = truth[row];

    var highest = logits[row * K];
    for (var k = lane; k < K; k += WG) {
        highest = max(highest, logits[row * K + k]);
    }
    highest = workgroup_max(highest, lane);
    var mass = 0.0;
    for (var k = lane; k < K; k += WG) {
        mass += exp(logits[row * K + k] - highest);
    }
    let lse = highest + log(workgroup_sum(mass, lane));

    // w_k = p_k / q(x_t | x_0 = k) and its sum; infinite where nothing is to be learned.
    let certain = is_certain(n, x);
    var total = 0.0;
    if !certain {
        for (var k = lane; k < K; k += WG) {
            total += exp(max(logits[row * K + k] - lse, LEAST)) / marginal(n, x, k);
        }
    }
    total = workgroup_sum(total, lane);

    var divergence = 0.0;
    if !certain {
        for (var k = lane; k < K; k += WG) {
            let real = earlier(n, j, k) / marginal(n, x, j);
            if real > 0.0 {
                let w = exp(max(logits[row * K + k] - lse, LEAST)) / marginal(n, x, k);
                let made = n.alpha_s * w + n.beta_s * total;
                divergence += back(n, x, k) * real * log(real / made);
            }
        }
    }
    divergence = workgroup_sum(divergence, lane);
    if lane == 0u {
        let log_p = max(logits[row * K + j] - lse, LEAST);
        let weight = row_weight(x);
        var v = weight * divergence;
        var entropy = -weight * log_p;
        if n.first != 0.0 {
            let w = exp(log_p) / marginal(n, x, j);
            v = select(-log(back(n, x, j) * (n.alpha_s * w + n.beta_s * total)), 0.0, certain);
            entropy = v;
        }
        value[row] = v;
        loss[row] = n.bound * v + n.auxiliary * entropy;
        stats[2u * row] = lse;
        stats[2u * row + 1u] = total;
    }
}
