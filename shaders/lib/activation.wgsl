// f and df = f' of activation OP (the order of Activation in src/kernels/unary.rs), on the type
// that the importing shader calls Element.
#import activations

#if OP == 0
fn f(v: Element) -> Element { return silu(v); }
fn df(v: Element) -> Element { return silu_slope(v); }
#endif
#if OP == 1
fn f(v: Element) -> Element { return gelu_tanh(v); }
fn df(v: Element) -> Element { return gelu_tanh_slope(v); }
#endif
#if OP == 2
fn f(v: Element) -> Element { return gelu_sigmoid(v); }
fn df(v: Element) -> Element { return gelu_sigmoid_slope(v); }
#endif
#if OP == 3
fn f(v: Element) -> Element { return relu(v); }
fn df(v: Element) -> Element { return relu_slope(v); }
#endif
#if OP == 4
fn f(v: Element) -> Element { return leaky_relu(v); }
fn df(v: Element) -> Element { return leaky_relu_slope(v); }
#endif
#if OP == 5
fn f(v: Element) -> Element { return gelu(v); }
fn df(v: Element) -> Element { return gelu_slope(v); }
#endif
