// Columns AT .. AT + NARROW of rows of WIDE elements. y = those of x [rows, WIDE], or with PAD the
// other way: y [rows, WIDE] = x there, zero elsewhere (ACCUM: y += ...). One element (or vec4) of y an
// invocation.
#import flat
#import element

struct Dims { rows: u32 }
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> x: array<Element>;
@group(0) @binding(1) var<storage, read_write> y: array<Element>;

#if PAD
const WIDTH: u32 = WIDE;
#else
const WIDTH: u32 = NARROW;
#endif

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 256u + lane;
    if i >= dims.rows * WIDTH {
        return;
    }
#if PAD
    // Left of AT this wraps round to far beyond NARROW.
    let column = i % WIDE - AT;
    var v = Element(0.0);
    if column < NARROW {
        v = x[i / WIDE * NARROW + column];
    }
#else
    let v = x[i / NARROW * WIDE + AT + i % NARROW];
#endif
#if ACCUM
    y[i] += v;
#else
    y[i] = v;
#endif
}
