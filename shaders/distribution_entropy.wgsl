// h = -sum q log q in nats, and log q for its gradient; one workgroup, fixed order.
const WG: u32 = 256u;
#import workgroup_sum

struct Dims { n: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read_write> h: array<f32>;
@group(0) @binding(2) var<storage, read_write> log_q: array<f32>;

// Probabilities up to this count as 0 in h, and as this in log q.
const FLOOR: f32 = 1.2e-38;

@compute @workgroup_size(256)
fn main(
    @builtin(local_invocation_index) lane: u32,
#if SUBGROUPS
    entered: Subgroup,
#endif
) {
#if SUBGROUPS
    subgroup = entered;
#endif
    var sum = 0.0;
    for (var i = lane; i < dims.n; i += WG) {
        let p = q[i];
        let log_p = log(max(p, FLOOR));
        log_q[i] = log_p;
        if !(p <= FLOOR) {
            sum -= p * log_p;
        }
    }
    let total = workgroup_sum(sum, lane);
    if lane == 0u {
        h[0] = total;
    }
}
