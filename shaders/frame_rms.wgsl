// rms[n, w, c] = sqrt(scale^2 mean over rows h of (a - b)^2 + EPS): how far two spectrograms are apart
// in each column. One column of one channel an invocation.
#import flat

struct Dims { columns: u32, h: u32, row: u32, scale: f32 }  // columns: n w c; row: w c
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> rms: array<f32>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 256u + lane;
    if i >= dims.columns {
        return;
    }
    var at = i / dims.row * dims.h * dims.row + i % dims.row;
    var sum = 0.0;
    for (var y = 0u; y < dims.h; y++) {
        let d = dims.scale * (a[at] - b[at]);
        sum += d * d;
        at += dims.row;
    }
    rms[i] = sqrt(sum / f32(dims.h) + EPS);
}
