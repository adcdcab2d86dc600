// SiLU and its derivative; imports nothing, wants `Element`.
fn sigmoid(v: Element) -> Element { return Element(1.0) / (Element(1.0) + exp(-v)); }
fn silu(v: Element) -> Element { return v * sigmoid(v); }
fn silu_slope(v: Element) -> Element {
    let s = sigmoid(v);
    return s * (Element(1.0) + v * (Element(1.0) - s));
}
