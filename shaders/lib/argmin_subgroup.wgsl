// Index of the smallest value over a workgroup, by subgroups; the lowest index wins ties.
#import subgroup
var<workgroup> argmin_values: array<f32, WG>;
var<workgroup> argmin_indices: array<u32, WG>;

fn workgroup_argmin(value: f32, index: u32, lane: u32) -> u32 {
    let least = subgroupMin(value);
    let lowest = subgroupMin(select(0xffffffffu, index, value == least));
    if leads(lane) {
        argmin_values[subgroup.id] = least;
        argmin_indices[subgroup.id] = lowest;
    }
    workgroupBarrier();
    var best = argmin_values[0];
    var winner = argmin_indices[0];
    for (var i = 1u; i < subgroup.count; i++) {
        let other = argmin_values[i];
        if other < best || (other == best && argmin_indices[i] < winner) {
            best = other;
            winner = argmin_indices[i];
        }
    }
    workgroupBarrier();
    return winner;
}
