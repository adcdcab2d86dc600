// Where an invocation is among the subgroups of its workgroup. Nothing is assumed of which lanes
// share a subgroup, of its size, or of how full it is. The entry point takes `entered: Subgroup`
// and copies it to `subgroup` first.
struct Subgroup {
    @builtin(subgroup_id) id: u32,
    @builtin(num_subgroups) count: u32,
}
var<private> subgroup: Subgroup;

// One invocation of every subgroup.
fn leads(lane: u32) -> bool {
    return subgroupBroadcastFirst(lane) == lane;
}
