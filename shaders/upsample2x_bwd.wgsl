// dx[n, h, w, c] = the sum of the 2 x 2 pixels of dy that repeat it; ACCUM: dx += ... One element
// of dx an invocation.
#import flat
#import element

const CV: u32 = CHANNELS / LANES;

struct Dims { elements: u32, w: u32 }  // elements of dx; width of dx
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> dy: array<Element>;
@group(0) @binding(1) var<storage, read_write> dx: array<Element>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 256u + lane;
    if i >= dims.elements {
        return;
    }
    let pixel = i / CV;
    let column = pixel % dims.w;
    let row = pixel / dims.w;
    let upper = ((row * 2u) * 2u * dims.w + column * 2u) * CV + i % CV;
    let lower = upper + 2u * dims.w * CV;
    let v = (dy[upper] + dy[upper + CV]) + (dy[lower] + dy[lower + CV]);
#if ACCUM
    dx[i] += v;
#else
    dx[i] = v;
#endif
}
