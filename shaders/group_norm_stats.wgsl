// (mean, 1 / sqrt(variance + EPS)) of every (sample, group) of x [n, hw, CHANNELS]. A workgroup takes
// COLUMNS neighbouring elements of every row, which make up STRIP groups, and reads them once. Each
// invocation collects mean and squared deviations, relative to a value of its channel so that a large
// common offset costs no digits; these are joined (Chan, Golub & LeVeque 1979), first over all that
// belong to one of TREE slots, then over the slots of a group.
#import element

const CV: u32 = CHANNELS / LANES;

struct Dims { hw: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> x: array<Element>;
@group(0) @binding(1) var<storage, read_write> stats: array<vec2<f32>>;

struct Moments { count: f32, mean: Element, squares: Element }
var<workgroup> counts: array<f32, WG>;
var<workgroup> means: array<Element, WG>;
var<workgroup> squares: array<Element, WG>;

// Of the union; not both may be empty.
fn joined(a: Moments, b: Moments) -> Moments {
    let count = a.count + b.count;
    let delta = b.mean - a.mean;
    return Moments(
        count,
        a.mean + delta * (b.count / count),
        a.squares + b.squares + delta * delta * (a.count * b.count / count),
    );
}

// Where a strip's e-th element lies; past the last column, a copy of that one.
fn place(sample: u32, strip: u32, e: u32) -> u32 {
    let column = min(strip * COLUMNS + e % COLUMNS, CV - 1u);
    return (sample * dims.hw + e / COLUMNS) * CV + column;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let elements = dims.hw * COLUMNS;
    let shift = x[place(group.y, group.x, lane % TREE)];
    var own = Moments(0.0, Element(0.0), Element(0.0));
    var e = lane;
    for (; e + 7u * WG < elements; e += 8u * WG) {
#unroll b in 0..8
        let v$b = x[place(group.y, group.x, e + $bu * WG)] - shift;
#endunroll
        let mean = (((v0 + v1) + (v2 + v3)) + ((v4 + v5) + (v6 + v7))) * 0.125;
        var around = Element(0.0);
#unroll b in 0..8
        around += (v$b - mean) * (v$b - mean);
#endunroll
        own = joined(own, Moments(8.0, mean, around));
    }
    for (; e < elements; e += WG) {
        let v = x[place(group.y, group.x, e)] - shift;
        own = joined(own, Moments(1.0, v, Element(0.0)));
    }

    counts[lane] = own.count;
    means[lane] = own.mean;
    squares[lane] = own.squares;
    workgroupBarrier();
    for (var half = HALF; half > 0u; half /= 2u) {
        let other = lane + half * TREE;
        // Where the other has elements, this one has.
        if lane / TREE < half && other < WG && counts[other] > 0.0 {
            own = joined(own, Moments(counts[other], means[other], squares[other]));
            counts[lane] = own.count;
            means[lane] = own.mean;
            squares[lane] = own.squares;
        }
        workgroupBarrier();
    }
    if lane < TREE {
        means[lane] = own.mean + shift;
    }
    workgroupBarrier();

    for (var g = lane; g < STRIP && group.x * STRIP + g < GROUPS; g += WG) {
        var mean = 0.0;
        for (var s = g * SLOTS; s < (g + 1u) * SLOTS; s++) {
            mean += component(means[s / LANES], s % LANES);
        }
        mean /= f32(SLOTS);
        // All slots have as many elements.
        let count = counts[g * SLOTS / LANES];
        var sum = 0.0;
        for (var s = g * SLOTS; s < (g + 1u) * SLOTS; s++) {
            let delta = component(means[s / LANES], s % LANES) - mean;
            sum += component(squares[s / LANES], s % LANES) + count * delta * delta;
        }
        let variance = sum / (count * f32(SLOTS));
        let at = group.y * GROUPS + group.x * STRIP + g;
        stats[at] = vec2<f32>(mean, 1.0 / sqrt(variance + EPS));
    }
}
