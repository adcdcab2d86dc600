// Smallest (value, index) of a workgroup of WG invocations; the lowest index wins ties.
// The kernel declares `const WG: u32` (a power of two).
var<workgroup> argmin_values: array<f32, WG>;
var<workgroup> argmin_indices: array<u32, WG>;

fn workgroup_argmin(value: f32, index: u32, lane: u32) -> u32 {
    argmin_values[lane] = value;
    argmin_indices[lane] = index;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        if lane < half {
            let other = argmin_values[lane + half];
            let other_index = argmin_indices[lane + half];
            let mine = argmin_values[lane];
            if other < mine || (other == mine && other_index < argmin_indices[lane]) {
                argmin_values[lane] = other;
                argmin_indices[lane] = other_index;
            }
        }
        workgroupBarrier();
    }
    let winner = argmin_indices[0];
    workgroupBarrier();
    return winner;
}
