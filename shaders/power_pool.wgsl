// Spectrograms linear in dB to magnitudes at a coarser resolution: y = sqrt(mean of e(x)) over blocks
// of R x R pixels, e(x) = exp(2 K (x - 1)) the power, x limited to [-2, 2]. One y an invocation.
#import flat
#import pixel_power

struct Dims { n: u32, w: u32 }  // elements of y; width of y
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

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
    let pixel = i / CHANNELS;
    // Rows of all samples: R divides the height.
    let first = pixel / dims.w * R * dims.w * R + pixel % dims.w * R;
    var sum = 0.0;
    for (var row = 0u; row < R; row++) {
        for (var column = 0u; column < R; column++) {
            sum += pixel_power(x[(first + row * dims.w * R + column) * CHANNELS + i % CHANNELS]);
        }
    }
    y[i] = sqrt(sum / f32(R * R));
}
