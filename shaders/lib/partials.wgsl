// Stage one of a sum in a fixed order: workgroup w adds term(i) over i in [w chunk, (w+1) chunk).
// The kernel declares `struct Dims` with n and chunk, and `fn term(i: u32) -> f32`.
const WG: u32 = 256u;
#import workgroup_sum

fn partial_sum(w: u32, lane: u32) -> f32 {
    let end = min((w + 1u) * dims.chunk, dims.n);
    var sum = 0.0;
    for (var i = w * dims.chunk + lane; i < end; i += WG) {
        sum += term(i);
    }
    return workgroup_sum(sum, lane);
}
