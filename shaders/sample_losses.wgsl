// losses: the sum of a sample's tokens at its place in the batch, and BATCH further on its time; 0 where
// the sample is another lane's. A workgroup a place.
const WG: u32 = 256u;
#import flat
#import reduce
#import step

struct Dims { samples: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> value: array<f32>;
@group(0) @binding(1) var<storage, read> time: array<u32>;
@group(0) @binding(2) var<storage, read_write> losses: array<f32>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let place = flat_group(group, groups);
    if place >= BATCH {
        return;
    }
    // Past all samples, too, for places in front of the lane: the difference wraps around.
    let own = place - (step.sample_base - step.step * BATCH);
    var sum = 0.0;
    if own < dims.samples {
        for (var i = lane; i < LEN; i += WG) {
            sum += value[own * LEN + i];
        }
    }
    sum = workgroup_sum(sum, lane);
    if lane == 0u {
        losses[place] = sum;
        losses[BATCH + place] = 0.0;
        if own < dims.samples {
            losses[BATCH + place] = f32(time[own]);
        }
    }
}
