// y[i] = table[idx[i]], zeros past the table; one element (or vec4) an invocation.
#import flat

#if VEC4
alias Element = vec4<f32>;
#else
alias Element = f32;
#endif

struct Dims { n: u32, rows: u32 }  // rows of y and of the table
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> idx: array<u32>;
@group(0) @binding(1) var<storage, read> table: array<Element>;
@group(0) @binding(2) var<storage, read_write> y: array<Element>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 256u + lane;
    if i >= dims.n * D {
        return;
    }
    let row = idx[i / D];
    if row < dims.rows {
        y[i] = table[row * D + i % D];
    } else {
        y[i] = Element(0.0);
    }
}
