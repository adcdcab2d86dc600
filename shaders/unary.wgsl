// y = f(x), or with BACKWARD dx = f'(x) dy (ACCUM: dx += ...), one element (or vec4) an invocation.
#import flat

#if VEC4
alias Element = vec4<f32>;
#else
alias Element = f32;
#endif

struct Dims { n: u32 }  // elements, in units of Element
@group(0) @binding(8) var<uniform> dims: Dims;
@group(0) @binding(0) var<storage, read> x: array<Element>;
#if BACKWARD
@group(0) @binding(1) var<storage, read> dy: array<Element>;
@group(0) @binding(2) var<storage, read_write> dx: array<Element>;
#else
@group(0) @binding(1) var<storage, read_write> y: array<Element>;
#endif

fn sigmoid(v: Element) -> Element {
    return Element(1.0) / (Element(1.0) + exp(-v));
}

#if OP == 0
fn f(v: Element) -> Element { return v * sigmoid(v); }  // SiLU
fn df(v: Element) -> Element {
    let s = sigmoid(v);
    return s * (Element(1.0) + v * (Element(1.0) - s));
}
#endif
#if OP == 1
// GELU, tanh form: tanh(u) = 1 - 2 / (exp(2u) + 1), written with sigmoid(2u) to stay accurate.
const C: f32 = 0.7978845608028654;  // sqrt(2 / pi)
fn f(v: Element) -> Element {
    return v * sigmoid(2.0 * C * (v + 0.044715 * v * v * v));
}
fn df(v: Element) -> Element {
    let s = sigmoid(2.0 * C * (v + 0.044715 * v * v * v));
    let du = 2.0 * C * (Element(1.0) + 0.134145 * v * v);
    return s + v * s * (Element(1.0) - s) * du;
}
#endif
#if OP == 2
// v sigmoid(1.702 v): the activation diffusers calls "geglu-approximate".
fn f(v: Element) -> Element { return v * sigmoid(1.702 * v); }
fn df(v: Element) -> Element {
    let s = sigmoid(1.702 * v);
    return s + 1.702 * v * s * (Element(1.0) - s);
}
#endif
#if OP == 3
fn f(v: Element) -> Element { return max(v, Element(0.0)); }  // ReLU
fn df(v: Element) -> Element { return select(Element(0.0), Element(1.0), v > Element(0.0)); }
#endif

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
#if BACKWARD
#if ACCUM
    dx[i] += df(x[i]) * dy[i];
#else
    dx[i] = df(x[i]) * dy[i];
#endif
#else
    y[i] = f(x[i]);
#endif
}
