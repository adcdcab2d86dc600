// dx[n, p, c] = dy[n, c] / HW (ACCUM: dx += ...).
#import flat

struct Dims { n: u32 }  // elements of dx
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 256u + lane;
    if i >= dims.n {
        return;
    }
    let g = dy[i / (HW * C_LEN) * C_LEN + i % C_LEN] / f32(HW);
#if ACCUM
    dx[i] += g;
#else
    dx[i] = g;
#endif
}
