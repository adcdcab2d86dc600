// f and df = f' of activation OP (the order of Activation in src/kernels/unary.rs), on the type
// that the importing shader calls Element.
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
const SQRT_2_PI: f32 = 0.7978845608028654;  // sqrt(2 / pi)
fn f(v: Element) -> Element {
    return v * sigmoid(2.0 * SQRT_2_PI * (v + 0.044715 * v * v * v));
}
fn df(v: Element) -> Element {
    let s = sigmoid(2.0 * SQRT_2_PI * (v + 0.044715 * v * v * v));
    let du = 2.0 * SQRT_2_PI * (Element(1.0) + 0.134145 * v * v);
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
