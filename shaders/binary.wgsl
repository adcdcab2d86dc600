// y = ALPHA (a OP b) (ACCUM: y += ...), with b repeated every B_LEN elements; one element (or
// vec4) an invocation.
#import flat

#if VEC4
alias Element = vec4<f32>;
#else
alias Element = f32;
#endif

struct Dims { n: u32 }  // elements, in units of Element
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> a: array<Element>;
@group(0) @binding(1) var<storage, read> b: array<Element>;
@group(0) @binding(2) var<storage, read_write> y: array<Element>;

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
#if REPEAT
    let second = b[i % B_LEN];
#else
    let second = b[i];
#endif
#if OP == 0
    let v = ALPHA * (a[i] + second);
#endif
#if OP == 1
    let v = ALPHA * (a[i] - second);
#endif
#if OP == 2
    let v = ALPHA * (a[i] * second);
#endif
#if ACCUM
    y[i] += v;
#else
    y[i] = v;
#endif
}
