// y[n, c] = mean over positions of x[n, p, c]. A workgroup takes CHANNELS channels of one image;
// its SLICES rows of invocations take every SLICES-th position, and are added in order.
const SLICES: u32 = 256u / CHANNELS;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

var<workgroup> sums: array<f32, 256>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let c = group.x * CHANNELS + lane % CHANNELS;
    let slice = lane / CHANNELS;
    var sum = 0.0;
    if c < C_LEN {
        for (var p = slice; p < HW; p += SLICES) {
            sum += x[(group.y * HW + p) * C_LEN + c];
        }
    }
    sums[lane] = sum;
    workgroupBarrier();
    if slice == 0u && c < C_LEN {
        for (var s = 1u; s < SLICES; s++) {
            sum += sums[s * CHANNELS + lane];
        }
        y[group.y * C_LEN + c] = sum / f32(HW);
    }
}
