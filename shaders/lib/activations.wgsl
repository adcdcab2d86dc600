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

fn relu(v: Element) -> Element { return max(v, Element(0.0)); }
fn relu_slope(v: Element) -> Element {
    return select(Element(0.0), Element(1.0), v > Element(0.0));
}

fn leaky_relu(v: Element) -> Element { return leaky_relu_slope(v) * v; }
fn leaky_relu_slope(v: Element) -> Element {
    return select(Element(0.2), Element(1.0), v > Element(0.0));
}
