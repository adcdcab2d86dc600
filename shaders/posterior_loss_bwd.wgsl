// The gradient of posterior_loss with respect to the logits (ACCUM: dlogits += ...); a workgroup a row.
#import flat
#import token_posterior
#import workgroup_sum

struct Dims { rows: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> truth: array<u32>;
@group(0) @binding(2) var<storage, read> seen: array<u32>;
@group(0) @binding(3) var<storage, read> noise: array<f32>;
@group(0) @binding(4) var<storage, read> stats: array<f32>;
@group(0) @binding(5) var<storage, read> dloss: array<f32>;
@group(0) @binding(6) var<storage, read_write> dlogits: array<f32>;

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
    let lse = stats[2u * row];
    let total = stats[2u * row + 1u];
    let certain = is_certain(n, x);
    let first = n.first != 0.0;
    let weight = row_weight(x);
    var bound = weight * n.bound;
    var auxiliary = weight * n.auxiliary;
    if first {
        bound = n.bound + n.auxiliary;
        auxiliary = 0.0;
    }
    if certain {
        bound = 0.0;
    }

    // Of the truth through the step: q(x_s = k | x_t, x_0) summed over codes, and over the model's.
    var mass = 0.0;
    var ratio = 0.0;
    if !certain && !first {
        for (var k = lane; k < K; k += WG) {
            let real = earlier(n, j, k) / marginal(n, x, j);
            let w = exp(max(logits[row * K + k] - lse, LEAST)) / marginal(n, x, k);
            mass += back(n, x, k) * real;
            ratio += back(n, x, k) * real / (n.alpha_s * w + n.beta_s * total);
        }
    }
    mass = workgroup_sum(mass, lane);
    ratio = workgroup_sum(ratio, lane);
    if first {
        let w = exp(max(logits[row * K + j] - lse, LEAST)) / marginal(n, x, j);
        mass = 1.0;
        ratio = 1.0 / (n.alpha_s * w + n.beta_s * total);
    }
    for (var k = lane; k < K; k += WG) {
        let i = row * K + k;
        let p = exp(max(logits[i] - lse, LEAST));
        var d = auxiliary * (p - select(0.0, 1.0, k == j));
        if bound != 0.0 {
            let w = p / marginal(n, x, k);
            // alpha_s times the ratio of this code alone.
            var own = select(0.0, n.alpha_s * ratio, k == j);
            if !first {
                let real = earlier(n, j, k) / marginal(n, x, j);
                own = n.alpha_s * back(n, x, k) * real / (n.alpha_s * w + n.beta_s * total);
            }
            d += bound * (p * mass - w * (own + n.beta_s * ratio));
        }
        d *= dloss[row];
#if ACCUM
        dlogits[i] += d;
#else
        dlogits[i] = d;
#endif
    }
}
