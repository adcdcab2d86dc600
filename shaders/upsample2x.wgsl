// Nearest upsampling: y[n, 2h, 2w, c] repeats every pixel of x [n, h, w, c] 2 x 2 times. One
// element of y an invocation.
#import flat
#import element

const CV: u32 = CHANNELS / LANES;

struct Dims { elements: u32, w: u32 }  // elements of y; width of x
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> x: array<Element>;
@group(0) @binding(1) var<storage, read_write> y: array<Element>;

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
    let column = pixel % (2u * dims.w);
    let row = pixel / (2u * dims.w);  // counts rows of all samples: 2h is even, so row / 2 is x's
    y[i] = x[(row / 2u * dims.w + column / 2u) * CV + i % CV];
}
