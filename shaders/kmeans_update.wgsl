// codebook = sums / counts where the cluster has members.
#import flat

struct Dims { n: u32 }  // elements of the codebook
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> counts: array<f32>;
@group(0) @binding(1) var<storage, read> sums: array<f32>;
@group(0) @binding(2) var<storage, read_write> codebook: array<f32>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 256u + lane;
    if i < dims.n && counts[i / D] > 0.0 {
        codebook[i] = sums[i] / counts[i / D];
    }
}
