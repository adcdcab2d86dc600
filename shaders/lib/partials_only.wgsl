// The whole of a kernel that writes one sum of term(i) for each chunk into its binding `partials`.
#import partials

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
#if SUBGROUPS
    entered: Subgroup,
#endif
) {
#if SUBGROUPS
    subgroup = entered;
#endif
    let sum = partial_sum(group.x, lane);
    if lane == 0u {
        partials[group.x] = sum;
    }
}
