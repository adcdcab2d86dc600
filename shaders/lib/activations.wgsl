// Every activation of src/kernels/unary.rs and its derivative, on the type Element.
#import silu

// GELU, tanh form: tanh(u) = 1 - 2 / (exp(2u) + 1), written with sigmoid(2u) to stay accurate.
const SQRT_2_PI: f32 = 0.7978845608028654;  // sqrt(2 / pi)
fn gelu_tanh(v: Element) -> Element {
    return v * sigmoid(2.0 * SQRT_2_PI * (v + 0.044715 * v * v * v));
}
fn gelu_tanh_slope(v: Element) -> Element {
    let s = sigmoid(2.0 * SQRT_2_PI * (v + 0.044715 * v * v * v));
    let du = 2.0 * SQRT_2_PI * (Element(1.0) + 0.134145 * v * v);
    return s + v * s * (Element(1.0) - s) * du;
}

// v sigmoid(1.702 v): the activation diffusers calls "geglu-approximate".
fn gelu_sigmoid(v: Element) -> Element { return v * sigmoid(1.702 * v); }
fn gelu_sigmoid_slope(v: Element) -> Element {
    let s = sigmoid(1.702 * v);
    return s + 1.702 * v * s * (Element(1.0) - s);
}

// The error function, to 1.5e-7 (Abramowitz & Stegun 1964, 7.1.26).
fn erf(v: Element) -> Element {
    let size = abs(v);
    let t = Element(1.0) / (Element(1.0) + 0.3275911 * size);
    let high = (1.0614054 * t - Element(1.4531521)) * t + Element(1.4214138);
    let poly = ((high * t - Element(0.28449672)) * t + Element(0.2548296)) * t;
    return sign(v) * (Element(1.0) - poly * exp(-size * size));
}

// x Phi(x), Phi the law of the standard normal.
fn normal_law(v: Element) -> Element { return 0.5 * (Element(1.0) + erf(0.70710678 * v)); }
fn gelu(v: Element) -> Element { return v * normal_law(v); }
fn gelu_slope(v: Element) -> Element {
    return normal_law(v) + v * (0.3989422804 * exp(-0.5 * v * v));
}

fn relu(v: Element) -> Element { return max(v, Element(0.0)); }
fn relu_slope(v: Element) -> Element {
    return select(Element(0.0), Element(1.0), v > Element(0.0));
}

fn leaky_relu(v: Element) -> Element { return leaky_relu_slope(v) * v; }
fn leaky_relu_slope(v: Element) -> Element {
    return select(Element(0.2), Element(1.0), v > Element(0.0));
}
