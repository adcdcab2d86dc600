// Where an invocation is among the subgroups of its workgroup. Nothing is assumed of a subgroup's
// size or of how full it is, and in WGSL nothing of which lanes share one. Not so on DX12, which has
// no such builtins: there naga takes the lanes for linear, subgroup_id for the invocation's index
// over WaveGetLaneCount(). The entry point takes `entered: Subgroup` and copies it to `subgroup`
// first.
struct Subgroup {
    @builtin(subgroup_id) id: u32,
    @builtin(num_subgroups) count: u32,
}
var<private> subgroup: Subgroup;

// One invocation of every subgroup.
fn leads(lane: u32) -> bool {
    return subgroupBroadcastFirst(lane) == lane;
}
