// The chances that a bit of logit l is clear and that it is set, 1 - s and s of s = sigmoid(l), both to
// full relative precision.
fn bit_chances(l: f32) -> vec2<f32> {
    let e = exp(-abs(l));
    let large = 1.0 / (1.0 + e);
    let small = e / (1.0 + e);
    return select(vec2(large, small), vec2(small, large), l >= 0.0);
}
