// Sum over a workgroup of WG invocations: over each subgroup in the driver's order, then over the
// subgroups in theirs, by every invocation alike, so that all get the same bits.
#import subgroup
var<workgroup> reduce_scratch: array<f32, WG>;

fn workgroup_sum(value: f32, lane: u32) -> f32 {
    let own = subgroupAdd(value);
    if leads(lane) {
        reduce_scratch[subgroup.id] = own;
    }
    workgroupBarrier();
    var total = reduce_scratch[0];
    for (var i = 1u; i < subgroup.count; i++) {
        total += reduce_scratch[i];
    }
    workgroupBarrier();
    return total;
}
