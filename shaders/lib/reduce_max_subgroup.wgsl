// Maximum over a workgroup, by subgroups.
#import reduce_subgroup

fn workgroup_max(value: f32, lane: u32) -> f32 {
    let own = subgroupMax(value);
    if leads(lane) {
        reduce_scratch[subgroup.id] = own;
    }
    workgroupBarrier();
    var result = reduce_scratch[0];
    for (var i = 1u; i < subgroup.count; i++) {
        result = max(result, reduce_scratch[i]);
    }
    workgroupBarrier();
    return result;
}
