// One index from the two grid dimensions that grid_1d folds past 65,535 workgroups.
fn flat_group(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.y * groups.x + group.x;
}
